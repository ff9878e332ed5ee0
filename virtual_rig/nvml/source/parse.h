/* The flat file's grammar: one "key value" a line; "gpu UUID" opens a card. */
#ifndef VIRTUAL_RIG_PARSE_H
#define VIRTUAL_RIG_PARSE_H

#include "scenario.h"

struct slot {
    int used, present; /* a slot keeps its card's UUID for ever: a handle stays valid */
    struct card card;
    struct process processes[MAX_PROCESSES];
    unsigned process_count;
};

struct world {
    struct driver driver;
    struct slot slots[MAX_CARDS];
    unsigned order[MAX_CARDS], count; /* the present cards, as the file lists them */
    struct link links[MAX_LINKS];
    unsigned link_count;
};

/* Forget all but the slots' UUIDs, then read the file; 0 where it cannot be opened. */
int parse_scenario(struct world *world, const char *path);

/* What setters stored: "set UUID KEY NUMBER" a line, the last one counts. */
void parse_state(struct world *world, const char *path);

#endif
