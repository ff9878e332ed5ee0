/* The private table that NVIDIA's own nvidia-smi asks for beside the public functions.
 *
 * Its numbering is not published: the entries below are what nvidia-smi 535 and 550 of Debian
 * were seen to call and what they do with the answer (run with VIRTUAL_RIG_NVML_TRACE=1 to see
 * it). Every other entry answers "not supported". */
#include <string.h>

#include "scenario.h"

#define PROCESS_RECORD 4128 /* 32 bytes of numbers, then 4096 of name */
#define MPS 2 /* clients of the multi-process service: a scenario has none */

extern nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *, nvmlDevice_t *);
extern nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t, nvmlDevice_t, unsigned *);
extern nvmlReturn_t nvmlSystemGetProcessName(unsigned, char *, unsigned);

/* Two bus ids -> 0 PIX, 1 PXB, 2 PHB, 3 NODE, 4 SYS. */
static nvmlReturn_t topology(const char *first, const char *second, unsigned *out)
{
    nvmlDevice_t a, b;
    unsigned level;
    REQUIRE(first && second && out, NVML_ERROR_INVALID_ARGUMENT);
    if (nvmlDeviceGetHandleByPciBusId_v2(first, &a) != NVML_SUCCESS ||
        nvmlDeviceGetHandleByPciBusId_v2(second, &b) != NVML_SUCCESS ||
        nvmlDeviceGetTopologyCommonAncestor(a, b, &level) != NVML_SUCCESS)
        return NVML_ERROR_NOT_SUPPORTED;
    *out = level / 10 - 1;
    return NVML_SUCCESS;
}

static void fill_record(char *record, const struct process *process)
{
    const unsigned none = NVML_NO_INSTANCE;
    memset(record, 0, 32);
    memcpy(record, &process->pid, sizeof process->pid);
    memcpy(record + 8, &process->used, sizeof process->used);
    memcpy(record + 16, &none, sizeof none);
    memcpy(record + 20, &none, sizeof none);
    nvmlSystemGetProcessName(process->pid, record + 32, 4096);
}

static nvmlReturn_t running(nvmlDevice_t device, int graphics, unsigned *room, char *out)
{
    struct process all[MAX_PROCESSES];
    unsigned total = 0, found = 0;
    nvmlReturn_t outcome = processes_of(device, all, &total);
    if (outcome != NVML_SUCCESS) return outcome;
    REQUIRE(room && out && *room <= 65536, NVML_ERROR_NOT_SUPPORTED);
    for (unsigned i = 0; i < total && found < *room; i++)
        if (all[i].graphics == graphics) fill_record(out + PROCESS_RECORD * found++, &all[i]);
    *room = found;
    return NVML_SUCCESS;
}

static nvmlReturn_t entry(unsigned number_, void *a, void *b, void *c)
{
    trace("private entry %u (%p, %p, %p)%s\n", number_, a, b, c, is_device(a) ? " card" : "");
    if (number_ == 23) return topology(a, b, c);
    if (number_ == 81 && (uintptr_t)a < MAX_CARDS && b)
        return device_at((unsigned)(uintptr_t)a, b);
    if (!is_device(a) || !b) return NVML_SUCCESS;
    WITH_CARD(a, card);
    if (number_ == 213) return running(a, 0, b, c);
    if (number_ == 214) return running(a, MPS, b, c);
    if (number_ == 215) return running(a, 1, b, c);
    if (number_ == 230) return number(card.pcie_gen_max, b);
    return NVML_ERROR_NOT_SUPPORTED;
}

/* One function for each entry, so that each knows its number. */
#define ENTRY(n) \
    static nvmlReturn_t entry_##n(void *a, void *b, void *c) { return entry(0x##n, a, b, c); }
#define NAME(n) (void *)entry_##n,
#define ROW(M, h) M(h##0) M(h##1) M(h##2) M(h##3) M(h##4) M(h##5) M(h##6) M(h##7) M(h##8) M(h##9) \
        M(h##a) M(h##b) M(h##c) M(h##d) M(h##e) M(h##f)
#define ALL(M) ROW(M, 0) ROW(M, 1) ROW(M, 2) ROW(M, 3) ROW(M, 4) ROW(M, 5) ROW(M, 6) ROW(M, 7) \
        ROW(M, 8) ROW(M, 9) ROW(M, a) ROW(M, b) ROW(M, c) ROW(M, d) ROW(M, e) ROW(M, f)
ALL(ENTRY)

static void *table[256] = {ALL(NAME)};

NVML_API nvmlReturn_t nvmlInternalGetExportTable(void **out, const unsigned char id[16])
{
    static const unsigned char KNOWN[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                            0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
    REQUIRE(out && id && memcmp(id, KNOWN, sizeof KNOWN) == 0, NVML_ERROR_NOT_SUPPORTED);
    table[0] = (void *)0x1000; /* the table's first word is its size */
    *out = table;
    return NVML_SUCCESS;
}
