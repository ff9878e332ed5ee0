#include "parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_KEY(field) {#field, offsetof(struct card, field), 0}
#define TEXT_KEY(field) {#field, offsetof(struct card, field), sizeof(((struct card *)0)->field)}

/* size 0: a number; otherwise the room of a text */
static const struct {
    const char *name;
    size_t offset, size;
} KEYS[] = {
    TEXT_KEY(name),
    TEXT_KEY(serial),
    TEXT_KEY(bus_id),
    NUMBER_KEY(pci_device_id),
    NUMBER_KEY(pci_subsystem_id),
    NUMBER_KEY(compute_major),
    NUMBER_KEY(compute_minor),
    NUMBER_KEY(architecture),
    NUMBER_KEY(brand),
    NUMBER_KEY(cores),
    NUMBER_KEY(memory_total),
    NUMBER_KEY(memory_reserved),
    NUMBER_KEY(memory_used),
    NUMBER_KEY(memory_bus_width),
    NUMBER_KEY(memory_clock_max),
    NUMBER_KEY(graphics_clock_max),
    NUMBER_KEY(clock_lock_min),
    NUMBER_KEY(clock_lock_max),
    NUMBER_KEY(display_active),
    NUMBER_KEY(display_attached),
    NUMBER_KEY(pcie_gen_max),
    NUMBER_KEY(pcie_gen_current),
    NUMBER_KEY(pcie_width_max),
    NUMBER_KEY(pcie_width_current),
    NUMBER_KEY(power_limit),
    NUMBER_KEY(power_default),
    NUMBER_KEY(power_min),
    NUMBER_KEY(power_max),
    NUMBER_KEY(power_usage),
    NUMBER_KEY(utilization),
    NUMBER_KEY(temperature),
    NUMBER_KEY(persistence),
    NUMBER_KEY(compute_mode),
    NUMBER_KEY(lost),
    NUMBER_KEY(xid),
};
#define KEY_COUNT (sizeof KEYS / sizeof KEYS[0])

static void copy_text(char *out, size_t size, const char *value)
{
    snprintf(out, size, "%s", value);
}

static void set_field(struct card *card, const char *key, const char *value)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(key, KEYS[i].name) != 0) continue;
        char *field = (char *)card + KEYS[i].offset;
        if (KEYS[i].size) copy_text(field, KEYS[i].size, value);
        else *(uint64_t *)field = strtoull(value, NULL, 0);
        return;
    }
}

static void clear_card(struct slot *slot, const char *uuid)
{
    memset(&slot->card, 0, sizeof slot->card);
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (!KEYS[i].size) *(uint64_t *)((char *)&slot->card + KEYS[i].offset) = UNKNOWN;
    slot->card.persistence = slot->card.compute_mode = slot->card.lost = slot->card.xid = 0;
    copy_text(slot->card.uuid, sizeof slot->card.uuid, uuid);
    slot->process_count = 0;
}

static struct slot *find_slot(struct world *world, const char *uuid)
{
    for (unsigned i = 0; i < MAX_CARDS; i++)
        if (world->slots[i].used && strcmp(world->slots[i].card.uuid, uuid) == 0)
            return &world->slots[i];
    return NULL;
}

static struct slot *open_card(struct world *world, const char *uuid)
{
    struct slot *slot = find_slot(world, uuid);
    for (unsigned i = 0; !slot && i < MAX_CARDS; i++)
        if (!world->slots[i].used) slot = &world->slots[i];
    if (!slot || world->count >= MAX_CARDS) return NULL;
    clear_card(slot, uuid);
    slot->used = slot->present = 1;
    world->order[world->count++] = (unsigned)(slot - world->slots);
    return slot;
}

/* "process PID graphics|compute BYTES|? NAME" */
static void add_process(struct slot *slot, const char *value)
{
    char kind[16], bytes[24];
    int name = 0;
    if (slot->process_count >= MAX_PROCESSES) return;
    struct process *process = &slot->processes[slot->process_count];
    if (sscanf(value, "%u %15s %23s %n", &process->pid, kind, bytes, &name) < 3) return;
    process->graphics = strcmp(kind, "graphics") == 0;
    process->used = bytes[0] == '?' ? UNKNOWN : strtoull(bytes, NULL, 10);
    copy_text(process->name, sizeof process->name, value + name);
    slot->process_count++;
}

static uint64_t maybe(const char *word)
{
    return word[0] == '?' ? UNKNOWN : strtoull(word, NULL, 10);
}

/* "link UUID UUID NVLINKS|? P2P|? PATH|?" */
static void add_link(struct world *world, const char *value)
{
    char nvlinks[24], p2p[24];
    if (world->link_count >= MAX_LINKS) return;
    struct link *link = &world->links[world->link_count];
    if (sscanf(value, "%95s %95s %23s %23s %7s", link->a, link->b, nvlinks, p2p, link->path) < 5)
        return;
    link->nvlinks = maybe(nvlinks);
    link->p2p = maybe(p2p);
    world->link_count++;
}

static void set_driver(struct driver *driver, const char *key, const char *value)
{
    if (strcmp(key, "driver") == 0) {
        driver->state = strcmp(value, "loaded") == 0     ? NVML_SUCCESS
                        : strcmp(value, "mismatch") == 0 ? NVML_ERROR_LIB_RM_VERSION_MISMATCH
                                                         : NVML_ERROR_DRIVER_NOT_LOADED;
    } else if (strcmp(key, "driver_version") == 0) {
        copy_text(driver->version, sizeof driver->version, value);
    } else if (strcmp(key, "nvml_version") == 0) {
        copy_text(driver->nvml_version, sizeof driver->nvml_version, value);
    } else if (strcmp(key, "cuda_driver_version") == 0) {
        driver->cuda_version = strtoull(value, NULL, 10);
    }
}

/* Cut a line at its end and its first space; the value, or NULL where there is none. */
static char *split_line(char *line)
{
    line[strcspn(line, "\r\n")] = 0;
    char *space = strchr(line, ' ');
    if (!space || line[0] == '#') return NULL;
    *space = 0;
    return space + 1;
}

static void place_card(struct card *card)
{
    unsigned domain = 0, bus = 0, device = 0;
    sscanf(card->bus_id, "%x:%x:%x", &domain, &bus, &device);
    card->domain = domain;
    card->bus = bus;
    card->device = device;
    snprintf(card->bus_id, sizeof card->bus_id, "%08X:%02X:%02X.0", domain, bus & 0xff,
             device & 0xff);
}

static void forget(struct world *world)
{
    memset(&world->driver, 0, sizeof world->driver);
    world->driver.state = NVML_ERROR_DRIVER_NOT_LOADED;
    world->count = world->link_count = 0;
    for (unsigned i = 0; i < MAX_CARDS; i++) world->slots[i].present = 0;
}

int parse_scenario(struct world *world, const char *path)
{
    char line[1024];
    struct slot *slot = NULL;
    forget(world);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        char *value = split_line(line);
        if (!value) continue;
        if (strcmp(line, "gpu") == 0) slot = open_card(world, value);
        else if (strcmp(line, "link") == 0) add_link(world, value);
        else if (!slot) set_driver(&world->driver, line, value);
        else if (strcmp(line, "process") == 0) add_process(slot, value);
        else set_field(&slot->card, line, value);
    }
    fclose(file);
    for (unsigned i = 0; i < world->count; i++) place_card(&world->slots[world->order[i]].card);
    return 1;
}

void parse_state(struct world *world, const char *path)
{
    char line[256], uuid[96], key[32], value[32];
    FILE *file = fopen(path, "re");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        struct slot *slot;
        if (sscanf(line, "set %95s %31s %31s", uuid, key, value) != 3) continue;
        if ((slot = find_slot(world, uuid)) != NULL) set_field(&slot->card, key, value);
    }
    fclose(file);
}
