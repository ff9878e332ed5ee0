#include "scenario.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parse.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct world world;
static unsigned sessions;

struct stamp {
    struct timespec changed;
    ino_t inode;
    off_t size;
};
static struct stamp read_scenario, read_state;
static int read_once;

static const char *scenario_path(void)
{
    const char *path = getenv("VIRTUAL_RIG_NVML");
    return path && *path ? path : "/dev/virtual-rig/nvml.scenario";
}

static const char *state_path(char room[512])
{
    snprintf(room, 512, "%s.state", scenario_path());
    return room;
}

static struct stamp stamp_of(const char *path)
{
    struct stat status;
    struct stamp stamp;
    memset(&stamp, 0, sizeof stamp);
    if (stat(path, &status) == 0) {
        stamp.changed = status.st_mtim;
        stamp.inode = status.st_ino;
        stamp.size = status.st_size;
    }
    return stamp;
}

/* With the lock held: read again what changed since the last call. */
static void refresh(void)
{
    char room[512];
    struct stamp scenario = stamp_of(scenario_path());
    struct stamp state = stamp_of(state_path(room));
    if (read_once && memcmp(&scenario, &read_scenario, sizeof scenario) == 0 &&
        memcmp(&state, &read_state, sizeof state) == 0)
        return;
    read_once = 1;
    read_scenario = scenario;
    read_state = state;
    parse_scenario(&world, scenario_path());
    parse_state(&world, room);
}

static void enter(void)
{
    pthread_mutex_lock(&lock);
    refresh();
}

static nvmlReturn_t leave(nvmlReturn_t outcome)
{
    pthread_mutex_unlock(&lock);
    return outcome;
}

/* With the lock held: a handle that was given out, whose card is on the bus and answers. */
static nvmlReturn_t usable(nvmlDevice_t device)
{
    if (!sessions) return NVML_ERROR_UNINITIALIZED;
    if (!is_device(device)) return NVML_ERROR_INVALID_ARGUMENT;
    if (!device->present || device->card.lost) return NVML_ERROR_GPU_IS_LOST;
    return NVML_SUCCESS;
}

int is_device(const void *pointer)
{
    const char *first = (const char *)world.slots, *at = pointer;
    if (at < first || at >= first + sizeof world.slots) return 0;
    if ((size_t)(at - first) % sizeof world.slots[0] != 0) return 0;
    return ((const struct slot *)pointer)->used;
}

nvmlReturn_t session_begin(void)
{
    enter();
    if (world.driver.state == NVML_SUCCESS) sessions++;
    return leave(world.driver.state);
}

nvmlReturn_t session_end(void)
{
    enter();
    if (!sessions) return leave(NVML_ERROR_UNINITIALIZED);
    sessions--;
    return leave(NVML_SUCCESS);
}

nvmlReturn_t session_check(void)
{
    enter();
    return leave(sessions ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED);
}

void driver_now(struct driver *out)
{
    enter();
    *out = world.driver;
    leave(NVML_SUCCESS);
}

nvmlReturn_t card_of(nvmlDevice_t device, struct card *out)
{
    enter();
    nvmlReturn_t outcome = usable(device);
    if (outcome == NVML_SUCCESS) *out = device->card;
    return leave(outcome);
}

nvmlReturn_t processes_of(nvmlDevice_t device, struct process out[MAX_PROCESSES], unsigned *count)
{
    enter();
    nvmlReturn_t outcome = usable(device);
    if (outcome != NVML_SUCCESS) return leave(outcome);
    *count = device->process_count;
    memcpy(out, device->processes, *count * sizeof out[0]);
    return leave(NVML_SUCCESS);
}

nvmlReturn_t find_process(unsigned pid, struct process *out)
{
    enter();
    for (unsigned i = 0; i < world.count; i++) {
        const struct slot *slot = &world.slots[world.order[i]];
        for (unsigned j = 0; j < slot->process_count; j++) {
            if (slot->processes[j].pid != pid) continue;
            *out = slot->processes[j];
            return leave(NVML_SUCCESS);
        }
    }
    return leave(NVML_ERROR_NOT_FOUND);
}

uint64_t xid_of(nvmlDevice_t device)
{
    enter();
    uint64_t xid = is_device(device) ? device->card.xid : 0;
    leave(NVML_SUCCESS);
    return xid;
}

unsigned count_cards(void)
{
    enter();
    unsigned count = world.count;
    leave(NVML_SUCCESS);
    return count;
}

unsigned copy_links(struct link out[MAX_LINKS])
{
    enter();
    unsigned count = world.link_count;
    memcpy(out, world.links, count * sizeof out[0]);
    leave(NVML_SUCCESS);
    return count;
}

nvmlReturn_t device_at(unsigned index, nvmlDevice_t *out)
{
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    enter();
    if (!sessions) return leave(NVML_ERROR_UNINITIALIZED);
    if (index >= world.count) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *out = &world.slots[world.order[index]];
    return leave(usable(*out));
}

nvmlReturn_t device_where(int (*matches)(const struct card *, const void *), const void *what,
                          nvmlDevice_t *out)
{
    if (!what || !out) return NVML_ERROR_INVALID_ARGUMENT;
    enter();
    if (!sessions) return leave(NVML_ERROR_UNINITIALIZED);
    for (unsigned i = 0; i < world.count; i++) {
        struct slot *slot = &world.slots[world.order[i]];
        if (!matches(&slot->card, what)) continue;
        *out = slot;
        return leave(usable(slot));
    }
    return leave(NVML_ERROR_NOT_FOUND);
}

nvmlReturn_t index_of(nvmlDevice_t device, unsigned *out)
{
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    enter();
    nvmlReturn_t outcome = usable(device);
    for (unsigned i = 0; outcome == NVML_SUCCESS && i < world.count; i++)
        if (&world.slots[world.order[i]] == device) *out = i;
    return leave(outcome);
}

nvmlReturn_t store(nvmlDevice_t device, const char *key, uint64_t value)
{
    char room[512], line[256];
    WITH_CARD(device, card);
    if (geteuid() != 0) return NVML_ERROR_NO_PERMISSION;
    int file = open(state_path(room), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) return NVML_ERROR_NO_PERMISSION;
    int length = snprintf(line, sizeof line, "set %s %s %llu\n", card.uuid, key,
                          (unsigned long long)value);
    ssize_t written = write(file, line, (size_t)length);
    close(file);
    return written == length ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}

nvmlReturn_t number(uint64_t value, unsigned *out)
{
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (value == UNKNOWN) return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned)value;
    return NVML_SUCCESS;
}

nvmlReturn_t text(const char *value, char *out, unsigned length)
{
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (!value[0]) return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(value) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(out, value, strlen(value) + 1);
    return NVML_SUCCESS;
}

void trace(const char *format, ...)
{
    va_list arguments;
    if (!getenv("VIRTUAL_RIG_NVML_TRACE")) return;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}
