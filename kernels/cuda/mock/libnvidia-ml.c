// A libnvidia-ml.so.1 for tests: one GPU at 0000:1b:00.0, held down by its power limit and by heat.
#include <string.h>

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **handle) {
    *handle = (void *)1;
    return strcmp(address, "0000:1b:00.0") ? 6 : 0;  // NVML_ERROR_NOT_FOUND
}
int nvmlDeviceGetClockInfo(void *handle, int which, unsigned *mhz) { *mhz = which == 1 ? 1410 : which == 2 ? 3201 : 0; return 0; }
int nvmlDeviceGetMaxClockInfo(void *handle, int which, unsigned *mhz) { *mhz = which == 1 ? 1980 : 0; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) { *reasons = 0x1 | 0x4 | 0x20; return 0; }
