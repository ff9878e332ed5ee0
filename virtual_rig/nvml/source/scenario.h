/* The scenario: what the cards are, read from a flat file that virtual_rig derives.
 *
 * The file named by $VIRTUAL_RIG_NVML (default /dev/virtual-rig/nvml.scenario) is read again
 * whenever it changes; FILE.state beside it holds what setters changed, until the next boot.
 * Without the file the library answers as NVML does without a kernel driver. */
#ifndef VIRTUAL_RIG_SCENARIO_H
#define VIRTUAL_RIG_SCENARIO_H

#include <stddef.h>
#include <stdint.h>

#include "nvml.h"

#define MAX_CARDS 32
#define MAX_PROCESSES 64
#define MAX_LINKS 512
#define UNKNOWN UINT64_MAX /* what the scenario does not say; answered as "not supported" */

/* Numbers are as NVML gives them: bytes, milliwatts, MHz, percent, degrees Celsius. */
struct card {
    char uuid[96], name[96], serial[32], bus_id[32];
    unsigned domain, bus, device;
    uint64_t pci_device_id, pci_subsystem_id;
    uint64_t compute_major, compute_minor, architecture, brand, cores;
    uint64_t memory_total, memory_reserved, memory_used, memory_bus_width, memory_clock_max;
    uint64_t graphics_clock_max, clock_lock_min, clock_lock_max;
    uint64_t display_active, display_attached;
    uint64_t pcie_gen_max, pcie_gen_current, pcie_width_max, pcie_width_current;
    uint64_t power_limit, power_default, power_min, power_max, power_usage;
    uint64_t utilization, temperature, persistence, compute_mode, lost, xid;
};

struct process {
    unsigned pid;
    int graphics;
    uint64_t used;
    char name[128];
};

struct link {
    char a[96], b[96], path[8];
    uint64_t nvlinks, p2p;
};

struct driver {
    nvmlReturn_t state;
    char version[80], nvml_version[80];
    uint64_t cuda_version;
};

/* How often nvmlInit was called more than nvmlShutdown. */
nvmlReturn_t session_begin(void);
nvmlReturn_t session_end(void);
nvmlReturn_t session_check(void);

/* Each copies under the lock, so that a scenario that changes meanwhile tears nothing. */
void driver_now(struct driver *out);
nvmlReturn_t card_of(nvmlDevice_t device, struct card *out);
nvmlReturn_t processes_of(nvmlDevice_t device, struct process out[MAX_PROCESSES], unsigned *count);
nvmlReturn_t find_process(unsigned pid, struct process *out);
uint64_t xid_of(nvmlDevice_t device); /* also of a lost card: that is when it matters */
unsigned count_cards(void);
unsigned copy_links(struct link out[MAX_LINKS]);

/* The handle of a card: by place in bus order, or where `matches` says yes. */
nvmlReturn_t device_at(unsigned index, nvmlDevice_t *out);
nvmlReturn_t device_where(int (*matches)(const struct card *, const void *), const void *what,
                          nvmlDevice_t *out);
nvmlReturn_t index_of(nvmlDevice_t device, unsigned *out);
int is_device(const void *pointer);

uint64_t count_nvlinks(const struct card *card);

/* Store what a setter changed; only root may, as with the real driver. */
nvmlReturn_t store(nvmlDevice_t device, const char *key, uint64_t value);

/* Shorthands that every function of the interface begins or ends with. */
nvmlReturn_t number(uint64_t value, unsigned *out);
nvmlReturn_t text(const char *value, char *out, unsigned length);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Declares the card's copy under `name`, or returns why there is none. */
#define WITH_CARD(handle, name)                         \
    struct card name;                                   \
    do {                                                \
        nvmlReturn_t outcome_ = card_of(handle, &name); \
        if (outcome_ != NVML_SUCCESS) return outcome_;  \
    } while (0)

#define REQUIRE(condition, otherwise) \
    do {                              \
        if (!(condition)) return otherwise; \
    } while (0)

/* One unsigned value of a card. */
#define CARD_NUMBER(function, expression)                             \
    NVML_API nvmlReturn_t function(nvmlDevice_t device, unsigned *out) \
    {                                                                 \
        WITH_CARD(device, card);                                      \
        return number(expression, out);                               \
    }

#endif
