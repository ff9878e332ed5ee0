/* The library, the driver, and finding a card. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "scenario.h"

NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return session_begin();
}

NVML_API nvmlReturn_t nvmlInit_v2(void) { return session_begin(); }
NVML_API nvmlReturn_t nvmlInit(void) { return session_begin(); }
NVML_API nvmlReturn_t nvmlShutdown(void) { return session_end(); }

NVML_API const char *nvmlErrorString(nvmlReturn_t code)
{
    switch (code) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_OPERATING_SYSTEM: return "Operating System Error";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_MEMORY: return "Out of Memory";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument Version Mismatch";
    default: return "Unknown Error";
    }
}

NVML_API nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    struct driver driver;
    nvmlReturn_t outcome = session_check();
    if (outcome != NVML_SUCCESS) return outcome;
    driver_now(&driver);
    return text(driver.version, out, length);
}

NVML_API nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, unsigned length)
{
    struct driver driver;
    driver_now(&driver);
    return text(driver.nvml_version, out, length);
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out)
{
    struct driver driver;
    driver_now(&driver);
    return number(driver.cuda_version, (unsigned *)out);
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out)
{
    return nvmlSystemGetCudaDriverVersion_v2(out);
}

/* A process of the scenario by its name there, any other by its real command line. */
NVML_API nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *out, unsigned length)
{
    struct process process;
    char path[64], command[512] = "";
    REQUIRE(out && length, NVML_ERROR_INVALID_ARGUMENT);
    if (find_process(pid, &process) == NVML_SUCCESS && process.name[0])
        return text(process.name, out, length);
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file) return NVML_ERROR_NOT_FOUND;
    size_t size = fread(command, 1, sizeof command - 1, file);
    fclose(file);
    command[size] = 0;
    return text(command, out, length);
}

NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out)
{
    nvmlReturn_t outcome = session_check();
    return outcome == NVML_SUCCESS ? number(count_cards(), out) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount(unsigned *out) { return nvmlDeviceGetCount_v2(out); }

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out)
{
    return device_at(index, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *out)
{
    return device_at(index, out);
}

static int has_uuid(const struct card *card, const void *uuid)
{
    return strcmp(card->uuid, uuid) == 0;
}

static int has_serial(const struct card *card, const void *serial)
{
    return strcmp(card->serial, serial) == 0;
}

static int has_bus_id(const struct card *card, const void *bus_id)
{
    unsigned domain, bus, device;
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &device) != 3) return 0;
    return card->domain == domain && card->bus == bus && card->device == device;
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *out)
{
    return device_where(has_uuid, uuid, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *out)
{
    return device_where(has_serial, serial, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *out)
{
    return device_where(has_bus_id, bus_id, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *out)
{
    return device_where(has_bus_id, bus_id, out);
}
