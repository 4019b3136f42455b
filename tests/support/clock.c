/* A wall clock that jumps: loaded before the C library, it adds to the time of day what the file $CLOCK_JUMP says, in seconds. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("CLOCK_JUMP");
    FILE *file = result == 0 && clock == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
    if (file) {
        long jump = 0;
        if (fscanf(file, "%ld", &jump) == 1) now->tv_sec += jump;
        fclose(file);
    }
    return (int)result;
}
