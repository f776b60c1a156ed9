"""MultiCam devices in C that cost next to nothing, hundreds in one process.

Each has a TCP port of its own, answers every command at once and sends a file of zeros. Devices in Python
would share the processor with what is measured, and would be the slower side.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks._native import C_HEAD, compile_c

C_SOURCE: Final = (
    C_HEAD
    + r"""
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define MOST 65536
#define PORTION 262144

struct entry {
    int device, listens, recording; /* of a listener, whether its device records */
    long long file;                 /* bytes of a file still to send */
};

static struct entry entries[MOST]; /* by descriptor */
static int listener_of[MOST], poll_fd;
static long long file_size;
static char zeros[PORTION], reply[1024];

static double unix_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Write a JSON object with the two fields that all answers have and more; returns its length. */
static int write_reply(char *at, size_t room, int device, const char *status, const char *more, ...) {
    va_list values;
    int length = snprintf(at, room, "{\"deviceId\":\"light-%d\",\"status\":\"%s\",\"timestamp\":%.6f", device,
                          status, unix_now());
    va_start(values, more);
    length += vsnprintf(at + length, room - length, more, values);
    va_end(values);
    at[length] = '}';
    return length + 1;
}

static void watch(int fd, int events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
}

static void send_file(int fd) {
    struct entry *one = &entries[fd];
    while (one->file > 0) {
        ssize_t sent = send(fd, zeros, one->file < PORTION ? one->file : PORTION, MSG_NOSIGNAL);
        if (sent < 0) break;
        one->file -= sent;
    }
    watch(fd, one->file > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void answer(int fd, const char *command) {
    int device = entries[fd].device, *recording = &entries[listener_of[device]].recording, size;
    char *at = reply;
    size_t room = sizeof reply;
    const char *file = ",\"fileName\":\"video-%d.mp4\",\"fileSize\":%lld";
    if (strstr(command, "\"START_RECORDING\"")) {
        *recording = 1;
        size = write_reply(at, room, device, "scheduled_recording_accepted", "");
    } else if (strstr(command, "\"STOP_RECORDING\"")) {
        *recording = 0;
        size = write_reply(at, room, device, "recording_stopped", file, device, file_size);
    } else if (strstr(command, "\"LIST_FILES\"")) {
        size = write_reply(at, room, device, "ready", ",\"files\":[]");
    } else if (strstr(command, "\"GET_VIDEO\"")) {
        size = write_reply(at + 4, room - 4, device, "ready", file, device, file_size);
        uint32_t length = htobe32(size);
        memcpy(at, &length, 4);
        size += 4;
        entries[fd].file = file_size;
    } else {
        size = write_reply(at, room, device, *recording ? "recording" : "ready",
                           ",\"uploadQueue\":[],\"failedUploadQueue\":[],\"deviceType\":\"iOS:iPhone\"");
    }
    send(fd, reply, size, MSG_NOSIGNAL);
    if (entries[fd].file) send_file(fd);
}

static void enter(int fd, int device, int listens) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || fd >= MOST) exit(2);
    entries[fd] = (struct entry){.device = device, .listens = listens};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void serve(int fd, int events) {
    static char command[8192];
    if (entries[fd].listens) {
        enter(accept4(fd, NULL, NULL, SOCK_NONBLOCK), entries[fd].device, 0);
    } else if (events & EPOLLOUT) {
        send_file(fd);
    } else {
        ssize_t count = recv(fd, command, sizeof command - 1, 0);
        if (count > 0) {
            command[count] = 0;
            answer(fd, command);
        } else {
            close(fd);
        }
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    struct rlimit limit;
    if (argc != 3) return 1;
    int count = atoi(argv[1]);
    file_size = atoll(argv[2]);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poll_fd = epoll_create1(0);
    for (int device = 0; device < count; device++) {
        struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof where;
        int fd = listener_of[device] = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(fd, (struct sockaddr *)&where, sizeof where) || listen(fd, 64)) return 1;
        getsockname(fd, (struct sockaddr *)&where, &size);
        enter(fd, device, 1);
        printf("%d ", ntohs(where.sin_port));
    }
    printf("\n");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) serve(events[i].data.fd, events[i].events);
    }
}
"""
)


def build(directory: Path, *, without: str) -> Path | None:
    """The program, or None without a compiler, where ``without`` says what then is so."""
    return compile_c(directory, "light-devices", C_SOURCE, without=without)


@contextmanager
def devices(program: Path, count: int, file_size: int = 1 << 20) -> Iterator[list[int]]:
    """So many devices in a process of their own; their ports."""
    process = subprocess.Popen([program, str(count), str(file_size)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield [int(port) for port in process.stdout.readline().split()]
    finally:
        process.kill()
        process.communicate()
