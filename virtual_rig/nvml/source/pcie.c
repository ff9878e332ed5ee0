/* The bus: where a card is, how wide its link, and how it reaches the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

CARD_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, card.pcie_gen_current)
CARD_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, card.pcie_width_current)
CARD_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, card.pcie_gen_max)
CARD_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, card.pcie_width_max)
CARD_NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, card.pcie_gen_max)
CARD_NUMBER(nvmlDeviceGetPcieReplayCounter, 0)

NVML_API nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned counter,
                                                  unsigned *out)
{
    WITH_CARD(device, card);
    REQUIRE(counter <= 1, NVML_ERROR_INVALID_ARGUMENT);
    return number(0, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *out)
{
    WITH_CARD(device, card);
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    memset(out, 0, sizeof *out);
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "%04X:%02X:%02X.0", card.domain & 0xffff,
             card.bus & 0xff, card.device & 0xff);
    snprintf(out->busId, sizeof out->busId, "%s", card.bus_id);
    out->domain = card.domain;
    out->bus = card.bus;
    out->device = card.device;
    out->pciDeviceId = (unsigned)card.pci_device_id;
    out->pciSubSystemId = (unsigned)card.pci_subsystem_id;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_v2_t *out)
{
    nvmlPciInfo_t info;
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t outcome = nvmlDeviceGetPciInfo_v3(device, &info);
    if (outcome != NVML_SUCCESS) return outcome;
    memset(out, 0, sizeof *out);
    memcpy(out, &info, offsetof(nvmlPciInfo_v2_t, reserved)); /* the two begin alike */
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_v2_t *out)
{
    return nvmlDeviceGetPciInfo_v2(device, out);
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t *out)
{
    nvmlPciInfo_t info;
    REQUIRE(out, NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t outcome = nvmlDeviceGetPciInfo_v3(device, &info);
    if (outcome != NVML_SUCCESS) return outcome;
    out->domain = info.domain;
    out->bus = info.bus;
    out->device = info.device;
    out->pciDeviceId = info.pciDeviceId;
    out->pciSubSystemId = info.pciSubSystemId;
    out->baseClass = 3; /* a display controller */
    out->subClass = 0;
    memcpy(out->busId, info.busId, sizeof out->busId);
    return NVML_SUCCESS;
}

/* The link between two cards; two cards of which the scenario says nothing meet at the host
 * bridge and cannot reach each other directly. */
static void find_link(const struct card *a, const struct card *b, struct link *out)
{
    static __thread struct link links[MAX_LINKS];
    unsigned count = copy_links(links);
    for (unsigned i = 0; i < count; i++) {
        int straight = strcmp(links[i].a, a->uuid) == 0 && strcmp(links[i].b, b->uuid) == 0;
        int turned = strcmp(links[i].a, b->uuid) == 0 && strcmp(links[i].b, a->uuid) == 0;
        if (!straight && !turned) continue;
        *out = links[i];
        return;
    }
    memset(out, 0, sizeof *out);
    strcpy(out->path, "PHB");
}

static uint64_t topology_level(const char *path)
{
    static const struct {
        const char *path;
        uint64_t level;
    } LEVELS[] = {{"PIX", 10}, {"PXB", 20}, {"PHB", 30}, {"NODE", 40}, {"SYS", 50}};
    for (size_t i = 0; i < sizeof LEVELS / sizeof LEVELS[0]; i++)
        if (strcmp(path, LEVELS[i].path) == 0) return LEVELS[i].level;
    return path[0] == '?' ? UNKNOWN : NVML_TOPOLOGY_HOSTBRIDGE; /* "NV4": the bus beside it */
}

NVML_API nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second,
                                                          unsigned *out)
{
    struct link link;
    WITH_CARD(first, a);
    WITH_CARD(second, b);
    if (first == second) return number(NVML_TOPOLOGY_INTERNAL, out);
    find_link(&a, &b, &link);
    return number(topology_level(link.path), out);
}

NVML_API nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, unsigned level,
                                                       unsigned *count, nvmlDevice_t *out)
{
    unsigned found = 0;
    WITH_CARD(device, card);
    REQUIRE(count, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < count_cards(); i++) {
        nvmlDevice_t other;
        unsigned distance;
        if (device_at(i, &other) != NVML_SUCCESS || other == device) continue;
        if (nvmlDeviceGetTopologyCommonAncestor(device, other, &distance) != NVML_SUCCESS) continue;
        if (distance != level) continue;
        if (out && found < *count) out[found] = other;
        found++;
    }
    *count = found;
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t first, nvmlDevice_t second,
                                             unsigned capability, unsigned *out)
{
    struct link link;
    WITH_CARD(first, a);
    WITH_CARD(second, b);
    find_link(&a, &b, &link);
    uint64_t able = capability == NVML_P2P_INDEX_NVLINK ? link.nvlinks : link.p2p;
    if (able == UNKNOWN) return number(NVML_P2P_UNKNOWN, out);
    return number(able ? NVML_P2P_OK : NVML_P2P_CHIPSET_NOT_SUPPORTED, out);
}

/* The card at the far end of this NVLink. Links are numbered in the scenario's order. */
static nvmlReturn_t far_end(const struct card *card, unsigned wanted, nvmlDevice_t *out)
{
    unsigned next = 0;
    for (unsigned i = 0; i < count_cards(); i++) {
        struct card other;
        struct link link;
        if (device_at(i, out) != NVML_SUCCESS || card_of(*out, &other) != NVML_SUCCESS) continue;
        find_link(card, &other, &link);
        if (link.nvlinks == UNKNOWN) continue;
        next += (unsigned)link.nvlinks;
        if (wanted < next) return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_SUPPORTED;
}

uint64_t count_nvlinks(const struct card *card)
{
    nvmlDevice_t other;
    uint64_t count = 0;
    while (far_end(card, (unsigned)count, &other) == NVML_SUCCESS) count++;
    return count;
}

NVML_API nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *out)
{
    nvmlDevice_t other;
    WITH_CARD(device, card);
    nvmlReturn_t outcome = far_end(&card, link, &other);
    return outcome == NVML_SUCCESS ? number(1, out) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned link, unsigned *out)
{
    nvmlDevice_t other;
    WITH_CARD(device, card);
    nvmlReturn_t outcome = far_end(&card, link, &other);
    return outcome == NVML_SUCCESS ? number(3, out) : outcome;
}

NVML_API nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link,
                                                          nvmlPciInfo_t *out)
{
    nvmlDevice_t other;
    WITH_CARD(device, card);
    nvmlReturn_t outcome = far_end(&card, link, &other);
    return outcome == NVML_SUCCESS ? nvmlDeviceGetPciInfo_v3(other, out) : outcome;
}
