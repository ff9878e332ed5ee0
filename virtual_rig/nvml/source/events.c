/* Xid events: what the kernel driver reports when a card misbehaves. */
#include <stdlib.h>
#include <time.h>

#include "scenario.h"

#define POLL_MILLISECONDS 20 /* the scenario is a file: a change is looked for, not announced */

struct event_set {
    struct {
        nvmlDevice_t device;
        uint64_t seen; /* the Xid that was there, or was told of, already */
    } watched[MAX_CARDS];
    unsigned count;
};

NVML_API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    *out = NVML_EVENT_XID;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out)
{
    nvmlReturn_t outcome = session_check();
    if (outcome != NVML_SUCCESS) return outcome;
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    *out = calloc(1, sizeof **out);
    return *out ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

NVML_API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    free(set);
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                               nvmlEventSet_t set)
{
    WITH_CARD(device, card);
    REQUIRE(set && set->count < MAX_CARDS, NVML_ERROR_INVALID_ARGUMENT);
    REQUIRE((types & ~(unsigned long long)NVML_EVENT_XID) == 0, NVML_ERROR_NOT_SUPPORTED);
    set->watched[set->count].device = device;
    set->watched[set->count].seen = card.xid;
    set->count++;
    return NVML_SUCCESS;
}

/* 1 where a watched card has an Xid that was not told of yet. */
static int next_event(nvmlEventSet_t set, nvmlEventData_t *out)
{
    for (unsigned i = 0; i < set->count; i++) {
        uint64_t xid = xid_of(set->watched[i].device);
        uint64_t seen = set->watched[i].seen;
        set->watched[i].seen = xid;
        if (!xid || xid == seen) continue;
        *out = (nvmlEventData_t){set->watched[i].device, NVML_EVENT_XID, xid, NVML_NO_INSTANCE,
                                 NVML_NO_INSTANCE};
        return 1;
    }
    return 0;
}

NVML_API nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *out,
                                          unsigned milliseconds)
{
    const struct timespec pause = {0, POLL_MILLISECONDS * 1000000L};
    REQUIRE(set && out, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned waited = 0;; waited += POLL_MILLISECONDS) {
        if (next_event(set, out)) return NVML_SUCCESS;
        if (waited >= milliseconds) return NVML_ERROR_TIMEOUT;
        nanosleep(&pause, NULL);
    }
}

NVML_API nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *out,
                                       unsigned milliseconds)
{
    return nvmlEventSetWait_v2(set, out, milliseconds);
}
