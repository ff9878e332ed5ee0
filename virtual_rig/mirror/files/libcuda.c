/* A libcuda.so.1 that loads and says that there is no device: cards of software compute nothing. */
#define CUDA_ERROR_NO_DEVICE 100

int cuInit(unsigned flags)
{
    (void)flags;
    return CUDA_ERROR_NO_DEVICE;
}

int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = 0;
    return CUDA_ERROR_NO_DEVICE;
}
