"""Compiles every kernel of la-core with NVRTC, as the program does at first use; needs the library, not a GPU.

    compile_kernels.py FOLDER_OF_LIBNVRTC [sm_90]
"""
import ctypes
import pathlib
import sys

KERNELS = pathlib.Path(__file__).parents[2] / "la-core/src/ops/cuda/kernels"
# The order of la-core/src/ops/cuda/context.rs.
FILES = ["device.cuh", "common.cuh", "layout.cu", "norm.cu", "views.cu", "pool.cu", "rows.cu", "sgd.cu", "select.cu", "loss.cu", "kmeans.cu", "nearest.cu"]


def main():
    folder, arch = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "sm_90"
    left_out = {path.name for path in KERNELS.iterdir()} - set(FILES)
    if left_out:
        sys.exit(f"compile_kernels.py: {sorted(left_out)} in {KERNELS} are not compiled: list them here and in context.rs")
    # NVRTC looks its built-in functions up by name: they are found once they are loaded.
    for name in ["libnvrtc-builtins.so.*", "libnvrtc.so.*"]:
        nvrtc = ctypes.CDLL(str(next(pathlib.Path(folder).glob(name))), ctypes.RTLD_GLOBAL)
    source = "".join((KERNELS / name).read_text() for name in FILES).encode()
    for value in ["float", "bf16"]:
        size = compile_with(nvrtc, source, [f"--gpu-architecture={arch}", f"-DVALUE={value}", "-std=c++17"])
        print(f"kernels for {value} activations: {size} bytes for {arch}")


def compile_with(nvrtc, source, options):
    """The size of the machine code; ends the program with NVRTC's log where there is none."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None))
    words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    code = nvrtc.nvrtcCompileProgram(program, len(options), words)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if code:
        sys.exit(log.value.decode())
    if log.value.strip():
        print(log.value.decode())
    check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    return size.value


def check(code):
    if code:
        sys.exit(f"compile_kernels.py: NVRTC fails with {code}")


main()
