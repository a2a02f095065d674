// What NVRTC offers for what the kernels ask of their surroundings.

#define INFINITY_F __int_as_float(0x7f800000)

__device__ inline float as_float(unsigned int bits) { return __uint_as_float(bits); }
__device__ inline unsigned int as_bits(float x) { return __float_as_uint(x); }
