// What NVRTC offers for what the kernels ask of their surroundings.

#define INFINITY_F __int_as_float(0x7f800000)

__device__ inline float as_float(unsigned int bits) { return __uint_as_float(bits); }
__device__ inline unsigned int as_bits(float x) { return __float_as_uint(x); }

// Two floats as bf16, rounded to nearest, the first in the lower half.
__device__ inline unsigned int round_pair(float low, float high) {
    unsigned int bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
