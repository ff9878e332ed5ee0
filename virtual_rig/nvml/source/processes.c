/* Who holds memory of a card. */
#include "scenario.h"

enum kind { COMPUTE = 0, GRAPHICS = 1 };

/* Fill `out` with the processes of one kind; the first interface has a shorter record. */
static nvmlReturn_t list(nvmlDevice_t device, enum kind kind, unsigned *room, void *out, int first)
{
    struct process all[MAX_PROCESSES];
    unsigned total = 0, found = 0;
    REQUIRE(room, NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t outcome = processes_of(device, all, &total);
    if (outcome != NVML_SUCCESS) return outcome;
    for (unsigned i = 0; i < total; i++) {
        if (all[i].graphics != (int)kind) continue;
        if (out && found < *room && first)
            ((nvmlProcessInfo_v1_t *)out)[found] = (nvmlProcessInfo_v1_t){all[i].pid, all[i].used};
        else if (out && found < *room)
            ((nvmlProcessInfo_t *)out)[found] = (nvmlProcessInfo_t){
                all[i].pid, all[i].used, NVML_NO_INSTANCE, NVML_NO_INSTANCE};
        found++;
    }
    outcome = found > *room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    *room = found;
    return outcome;
}

#define PROCESS_LIST(function, kind)                                                   \
    NVML_API nvmlReturn_t function(nvmlDevice_t device, unsigned *room, void *out)      \
    {                                                                                  \
        return list(device, kind, room, out, 1);                                       \
    }                                                                                  \
    NVML_API nvmlReturn_t function##_v2(nvmlDevice_t device, unsigned *room, void *out) \
    {                                                                                  \
        return list(device, kind, room, out, 0);                                       \
    }                                                                                  \
    NVML_API nvmlReturn_t function##_v3(nvmlDevice_t device, unsigned *room, void *out) \
    {                                                                                  \
        return list(device, kind, room, out, 0);                                       \
    }

PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses, COMPUTE)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS)
