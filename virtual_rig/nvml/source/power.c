/* Power limits and clocks. What a setter changes holds until the next boot, as with a driver. */
#include "scenario.h"

CARD_NUMBER(nvmlDeviceGetPowerUsage, card.power_usage)
CARD_NUMBER(nvmlDeviceGetPowerManagementMode, card.power_limit == UNKNOWN ? 0 : 1)
CARD_NUMBER(nvmlDeviceGetPowerManagementLimit, card.power_limit)
CARD_NUMBER(nvmlDeviceGetEnforcedPowerLimit, card.power_limit)
CARD_NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, card.power_default)

NVML_API nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device,
                                                                   unsigned *least, unsigned *most)
{
    WITH_CARD(device, card);
    nvmlReturn_t outcome = number(card.power_min, least);
    return outcome == NVML_SUCCESS ? number(card.power_max, most) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned milliwatts)
{
    WITH_CARD(device, card);
    REQUIRE(card.power_min != UNKNOWN && card.power_max != UNKNOWN, NVML_ERROR_NOT_SUPPORTED);
    REQUIRE(milliwatts >= card.power_min && milliwatts <= card.power_max,
            NVML_ERROR_INVALID_ARGUMENT);
    return store(device, "power_limit", milliwatts);
}

NVML_API nvmlReturn_t nvmlDeviceSetPowerManagementLimit_v2(nvmlDevice_t device,
                                                           nvmlPowerValue_v2_t *value)
{
    REQUIRE(value && value->powerScope == 0, NVML_ERROR_INVALID_ARGUMENT);
    return nvmlDeviceSetPowerManagementLimit(device, value->powerValueMw);
}

/* Idle cards fall to 210 MHz; a lock bounds both ends. */
static uint64_t graphics_clock(const struct card *card)
{
    uint64_t clock = card->utilization > 0 ? card->graphics_clock_max : 210;
    if (card->clock_lock_max != UNKNOWN && clock > card->clock_lock_max)
        clock = card->clock_lock_max;
    if (card->clock_lock_min != UNKNOWN && clock < card->clock_lock_min)
        clock = card->clock_lock_min;
    return clock;
}

static uint64_t memory_clock(const struct card *card)
{
    int idle = card->utilization == 0 && card->memory_clock_max != UNKNOWN;
    return idle ? 405 : card->memory_clock_max;
}

NVML_API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned kind, unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(kind < NVML_CLOCK_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    return number(kind == NVML_CLOCK_MEM ? memory_clock(&card) : graphics_clock(&card), out);
}

NVML_API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned kind, unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(kind < NVML_CLOCK_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    return number(kind == NVML_CLOCK_MEM ? card.memory_clock_max : card.graphics_clock_max, out);
}

NVML_API nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned least,
                                                   unsigned most)
{
    WITH_CARD(device, card);
    REQUIRE(least <= most && least <= card.graphics_clock_max, NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t outcome = store(device, "clock_lock_min", least);
    return outcome == NVML_SUCCESS ? store(device, "clock_lock_max", most) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device)
{
    nvmlReturn_t outcome = store(device, "clock_lock_min", UNKNOWN);
    return outcome == NVML_SUCCESS ? store(device, "clock_lock_max", UNKNOWN) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                             unsigned long long *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    *out = card.utilization > 0 ? 0 : 1; /* 1: the GPU is idle */
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                                unsigned long long *out)
{
    return nvmlDeviceGetCurrentClocksEventReasons(device, out);
}

/* The fields that nvidia-smi asks for; all power fields are in milliwatts. */
static uint64_t field(const struct card *card, unsigned id)
{
    switch (id) {
    case 91: return count_nvlinks(card);
    case 94: return 0;                  /* PCIe replay counter */
    case 185: return card->power_usage; /* average */
    case 186: return card->power_usage; /* instant */
    case 187: return card->power_min;
    case 188: return card->power_max;
    case 189: return card->power_default;
    case 190: return card->power_limit; /* current */
    case 192: return card->power_limit; /* requested */
    default: return UNKNOWN;
    }
}

NVML_API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                               nvmlFieldValue_t *values)
{
    WITH_CARD(device, card);
    REQUIRE(values, NVML_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < count; i++) {
        uint64_t value = values[i].scopeId == 0 ? field(&card, values[i].fieldId) : UNKNOWN;
        values[i].valueType = 1; /* unsigned int */
        values[i].value.ullVal = 0;
        values[i].nvmlReturn = number(value, &values[i].value.uiVal);
        trace("field %u scope %u: %d\n", values[i].fieldId, values[i].scopeId,
              values[i].nvmlReturn);
    }
    return NVML_SUCCESS;
}
