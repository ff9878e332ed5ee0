/* A small nvidia-smi for the mirror's driver packages: lists cards, sets persistence mode.
 * What it prints where there is no driver is what NVIDIA's own prints, exit code 9 included. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *device_t;

static void *library;

static void *function(const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "nvidia-smi: the library has no %s\n", name);
        exit(12);
    }
    return found;
}

static int fail(int code)
{
    if (code == 18)
        puts("Failed to initialize NVML: Driver/library version mismatch");
    else
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
             "sure that the latest NVIDIA driver is installed and running.\n");
    return code;
}

static int for_each_card(int persistence)
{
    int (*count_cards)(unsigned *) = function("nvmlDeviceGetCount_v2");
    int (*card_at)(unsigned, device_t *) = function("nvmlDeviceGetHandleByIndex_v2");
    int (*name_of)(device_t, char *, unsigned) = function("nvmlDeviceGetName");
    int (*uuid_of)(device_t, char *, unsigned) = function("nvmlDeviceGetUUID");
    int (*set_persistence)(device_t, unsigned) = function("nvmlDeviceSetPersistenceMode");
    unsigned count = 0;
    int worst = count_cards(&count);
    for (unsigned i = 0; i < count; i++) {
        char name[96] = "?", uuid[96] = "?";
        device_t card;
        int outcome = card_at(i, &card);
        if (outcome == 0 && persistence >= 0)
            outcome = set_persistence(card, (unsigned)persistence);
        if (outcome != 0) {
            printf("Unable to determine the device handle for GPU%u: error %d\n", i, outcome);
            worst = outcome;
        } else if (persistence < 0) {
            name_of(card, name, sizeof name);
            uuid_of(card, uuid, sizeof uuid);
            printf("GPU %u: %s (UUID: %s)\n", i, name, uuid);
        }
    }
    return worst;
}

int main(int argc, char **argv)
{
    int persistence = argc == 3 && strcmp(argv[1], "-pm") == 0 ? atoi(argv[2]) : -1;
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.");
        return 12;
    }
    int (*begin)(void) = function("nvmlInit_v2");
    int outcome = begin();
    return outcome ? fail(outcome) : for_each_card(persistence);
}
