/* What a card is, what it holds and how warm it is. */
#include <string.h>
#include <unistd.h>

#include "scenario.h"

#define CARD_TEXT(function, field)                                                  \
    NVML_API nvmlReturn_t function(nvmlDevice_t device, char *out, unsigned length) \
    {                                                                               \
        WITH_CARD(device, card);                                                    \
        return text(card.field, out, length);                                       \
    }

CARD_TEXT(nvmlDeviceGetName, name)
CARD_TEXT(nvmlDeviceGetUUID, uuid)
CARD_TEXT(nvmlDeviceGetSerial, serial)

CARD_NUMBER(nvmlDeviceGetBrand, card.brand)
CARD_NUMBER(nvmlDeviceGetArchitecture, card.architecture)
CARD_NUMBER(nvmlDeviceGetNumGpuCores, card.cores)
CARD_NUMBER(nvmlDeviceGetMemoryBusWidth, card.memory_bus_width)
CARD_NUMBER(nvmlDeviceGetBoardId, card.bus << 8)
CARD_NUMBER(nvmlDeviceGetMultiGpuBoard, 0)
CARD_NUMBER(nvmlDeviceIsMigDeviceHandle, 0)
CARD_NUMBER(nvmlDeviceGetMaxMigDeviceCount, 0)
CARD_NUMBER(nvmlDeviceGetVirtualizationMode, 0)

CARD_NUMBER(nvmlDeviceGetDisplayActive, card.display_active)
CARD_NUMBER(nvmlDeviceGetDisplayMode, card.display_attached)
CARD_NUMBER(nvmlDeviceGetPersistenceMode, card.persistence)
CARD_NUMBER(nvmlDeviceGetComputeMode, card.compute_mode)

CARD_NUMBER(nvmlDeviceGetFanSpeed, 30)
CARD_NUMBER(nvmlDeviceGetNumFans, 2)
CARD_NUMBER(nvmlDeviceGetPerformanceState, card.utilization > 0 ? 2 : 8)
CARD_NUMBER(nvmlDeviceGetPowerState, card.utilization > 0 ? 2 : 8)

NVML_API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *out)
{
    return index_of(device, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *out)
{
    return index_of(device, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major,
                                                         int *minor)
{
    WITH_CARD(device, card);
    nvmlReturn_t outcome = number(card.compute_major, (unsigned *)major);
    return outcome == NVML_SUCCESS ? number(card.compute_minor, (unsigned *)minor) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, unsigned mode)
{
    REQUIRE(mode <= 1, NVML_ERROR_INVALID_ARGUMENT);
    return store(device, "persistence", mode);
}

NVML_API nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, unsigned mode)
{
    REQUIRE(mode <= 3, NVML_ERROR_INVALID_ARGUMENT);
    return store(device, "compute_mode", mode);
}

/* Version 1 counts the driver's own share as used; version 2 tells the two apart. */
NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(card.memory_used != UNKNOWN, NVML_ERROR_NOT_SUPPORTED);
    uint64_t reserved = card.memory_reserved == UNKNOWN ? 0 : card.memory_reserved;
    uint64_t used = card.memory_used + reserved;
    out->total = card.memory_total;
    out->used = used < card.memory_total ? used : card.memory_total;
    out->free = out->total - out->used;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE(out->version == (2u << 24 | sizeof *out), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    REQUIRE(card.memory_used != UNKNOWN && card.memory_reserved != UNKNOWN,
            NVML_ERROR_NOT_SUPPORTED);
    uint64_t room = card.memory_total - card.memory_reserved;
    out->total = card.memory_total;
    out->reserved = card.memory_reserved;
    out->used = card.memory_used < room ? card.memory_used : room;
    out->free = room - out->used;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    out->bar1Total = 256ull << 20;
    out->bar1Used = 3ull << 20;
    out->bar1Free = out->bar1Total - out->bar1Used;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t outcome = number(card.utilization, &out->gpu);
    out->memory = out->gpu / 2;
    return outcome;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(sensor == 0, NVML_ERROR_INVALID_ARGUMENT);
    return number(card.temperature, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out)
{
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    return nvmlDeviceGetTemperature(device, out->sensorType, (unsigned *)&out->temperature);
}

/* Threshold 0 shuts down, 1 slows down. */
NVML_API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned threshold,
                                                        unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(threshold <= 1, NVML_ERROR_NOT_SUPPORTED);
    return number(threshold == 0 ? 98 : 95, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned fan, unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(fan < 2, NVML_ERROR_INVALID_ARGUMENT);
    return number(30, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned words,
                                               unsigned long *out)
{
    WITH_CARD(device, card);
    REQUIRE(out && words, NVML_ERROR_INVALID_ARGUMENT);
    memset(out, 0, words * sizeof *out);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    out[0] = processors >= 64 ? ~0ul : (1ul << processors) - 1;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned words,
                                                  unsigned long *out, unsigned scope)
{
    WITH_CARD(device, card);
    (void)scope;
    REQUIRE(out && words, NVML_ERROR_INVALID_ARGUMENT);
    memset(out, 0, words * sizeof *out);
    out[0] = 1;
    return NVML_SUCCESS;
}
