"""A MediaMTX Camera Service that costs next to nothing: in C where there is a compiler, else in Python.

It answers each JSON-RPC method with what a table has for it, and ``flood`` with its result and then as many
notifications as ``count`` says. A server in Python would take half of the time that is measured, and so bring
all clients closer together than they are.

    python -m benchmarks._rpc_server DIRECTORY

prints a port and serves the table of DIRECTORY, which `write_table` makes.
"""

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks._native import C_HEAD, compile_c

_METHOD = re.compile(rb'"method": ?"([^"]*)"')
_ID = re.compile(rb'"id": ?("[^"]*"|\d+)')
_COUNT = re.compile(rb'"count": ?(\d+)')
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def camera(number: int) -> dict[str, Any]:
    """A camera as the service lists it."""
    name = f"camera{number}"
    streams = {kind: f"{kind}://service.local:8554/{name}" for kind in ("rtsp", "hls", "webrtc")}
    return {
        "device": f"/dev/video{number}",
        "status": "CONNECTED",
        "name": f"Camera {number}",
        "resolution": "1920x1080",
        "fps": 30,
        "streams": streams,
        "capabilities": ["H264", "MJPEG"],
    }


def write_table(directory: Path, cameras: int) -> None:
    """Write what a service of the first generation with so many cameras answers and notifies."""
    listed = [camera(number) for number in range(cameras)]
    missing = {"error": {"code": -32601, "message": "Method not found"}}
    answers: dict[str, dict[str, Any]] = {
        "authenticate": {"result": {"authenticated": True, "role": "admin"}},
        "get_subscription_stats": missing,
        "subscribe_events": missing,
        "get_camera_list": {"result": {"cameras": listed, "total": cameras, "connected": cameras}},
        "flood": {"result": "pong"},
        "ping": {"result": "pong"},
    }
    # One method a line, a tab, and what stands behind the id.
    lines = [f"{method}\t{json.dumps(answer)[1:]}\n" for method, answer in answers.items()]
    (directory / "answers").write_text("".join(lines))
    notices = ({"jsonrpc": "2.0", "method": "camera_status_update", "params": one} for one in listed)
    (directory / "notices").write_text("".join(f"{json.dumps(notice)}\n" for notice in notices))


@contextmanager
def serving(directory: Path, cameras: int) -> Iterator[int]:
    """A service with so many cameras in a process of its own; its port."""
    table = directory / f"service-{cameras}"
    table.mkdir()
    write_table(table, cameras)
    native = _native(directory)
    command = (str(native),) if native else (sys.executable, "-m", "benchmarks._rpc_server")
    server = subprocess.Popen([*command, str(table)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.communicate()


@cache
def _native(directory: Path) -> Path | None:
    return compile_c(directory, "rpc-server", C_SOURCE, without="the server of JSON-RPC is in Python")


# -- the server in Python ------------------------------------------------------------------------


class Service(asyncio.Protocol):
    """Just enough WebSocket to answer: a frame in, a frame out, no library whose cost would count."""

    def __init__(self, answers: dict[bytes, bytes], notices: list[bytes]) -> None:
        self._answers = answers
        self._notices = notices
        self._buffer = bytearray()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._shake_hands(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        answers: list[bytes] = []
        while (message := self._next()) is not None:
            answers += self._answer(*message)
        if answers:
            self._transport.write(b"".join(answers))

    def _shake_hands(self, request: bytes) -> None:
        match = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
        assert match is not None
        key = base64.b64encode(hashlib.sha1(match[1] + _GUID).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
        )
        self._open = True

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 6:
            return None
        length, start = buffer[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        if len(buffer) < start + 4 + length:
            return None
        mask = bytes(buffer[start : start + 4])
        body = bytes(buffer[start + 4 : start + 4 + length])
        opcode = buffer[0] & 15
        del buffer[: start + 4 + length]
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return opcode, (int.from_bytes(body, "big") ^ key).to_bytes(length, "big")

    def _answer(self, opcode: int, body: bytes) -> list[bytes]:
        if opcode == 8:
            self._transport.write(_frame(body, 8))
            self._transport.close()
            return []
        if opcode == 9:
            return [_frame(body, 10)]
        method, number = _METHOD.search(body), _ID.search(body)
        if method is None or number is None:
            return []
        answer = self._answers[method[1]]
        frames = [_frame(b'{"jsonrpc": "2.0", "id": ' + number[1] + b", " + answer)]
        if method[1] == b"flood":
            found = _COUNT.search(body)
            assert found is not None
            rounds, rest = divmod(int(found[1]), len(self._notices))
            frames += self._notices * rounds + self._notices[:rest]
        return frames


def _frame(body: bytes, opcode: int = 1) -> bytes:
    length = len(body)
    if length < 126:
        return bytes((128 | opcode, length)) + body
    if length < 65536:
        return bytes((128 | opcode, 126)) + length.to_bytes(2, "big") + body
    return bytes((128 | opcode, 127)) + length.to_bytes(8, "big") + body


async def _serve(table: Path) -> None:
    lines = (table / "answers").read_bytes().splitlines()
    answers = {method: answer for method, _, answer in (line.partition(b"\t") for line in lines)}
    notices = [_frame(line) for line in (table / "notices").read_bytes().splitlines()]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Service(answers, notices), "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- the server in C ------------------------------------------------------------------------------

C_SOURCE: Final = (
    C_HEAD
    + r"""
#include <sys/epoll.h>

#define MAX_CONNECTIONS 4096
#define PORTION 65536

struct text { char *at; size_t size; };
struct connection {
    char *in, *out;
    size_t in_size, in_room, out_size, out_sent, out_room;
    long flood, next; /* notifications still to send, and which is next */
    int open;
};

static struct connection *connections[MAX_CONNECTIONS];
static struct text methods[64], answers[64], notices[4096];
static int method_count, notice_count, poll_fd;

/* -- SHA-1 and base64 of one handshake, RFC 3174 and RFC 4648 -- */

static uint32_t rotate(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void sha1(const unsigned char *data, size_t size, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    unsigned char padded[192] = {0};
    size_t blocks = (size + 8) / 64 + 1;
    memcpy(padded, data, size);
    padded[size] = 0x80;
    for (int i = 0; i < 8; i++) padded[blocks * 64 - 1 - i] = (unsigned char)((uint64_t)size * 8 >> 8 * i);
    for (size_t block = 0; block < blocks; block++) {
        for (int i = 0; i < 16; i++) {
            memcpy(&w[i], padded + block * 64 + i * 4, 4);
            w[i] = be32toh(w[i]);
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
            else f = b ^ c ^ d, k = 0xca62c1d6;
            uint32_t next = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char *data, size_t size, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t second = i + 1 < size ? data[i + 1] : 0, third = i + 2 < size ? data[i + 2] : 0;
        uint32_t word = data[i] << 16 | second << 8 | third;
        for (int digit = 0; digit < 4; digit++)
            *out++ = i + digit > size ? '=' : digits[word >> (18 - 6 * digit) & 63];
    }
    *out = 0;
}

/* -- what is sent -- */

static void put(struct connection *one, const void *data, size_t size) {
    if (one->out_size + size > one->out_room) {
        one->out_room = 2 * (one->out_size + size);
        one->out = realloc(one->out, one->out_room);
    }
    memcpy(one->out + one->out_size, data, size);
    one->out_size += size;
}

static void put_head(struct connection *one, int opcode, size_t size) {
    unsigned char head[10] = {(unsigned char)(128 | opcode)};
    if (size < 126) {
        head[1] = (unsigned char)size;
        put(one, head, 2);
    } else {
        int width = size < 65536 ? 2 : 8;
        head[1] = width == 2 ? 126 : 127;
        for (int i = 0; i < width; i++) head[2 + i] = (unsigned char)((uint64_t)size >> 8 * (width - 1 - i));
        put(one, head, 2 + width);
    }
}

static void put_frame(struct connection *one, int opcode, const char *data, size_t size) {
    put_head(one, opcode, size);
    put(one, data, size);
}

/* Send what there is; 0 when the socket takes no more, or nothing is left. */
static void flush_out(int fd, struct connection *one) {
    for (;;) {
        while (one->flood > 0 && one->out_size < PORTION) {
            struct text *notice = &notices[one->next];
            put_frame(one, 1, notice->at, notice->size);
            one->next = (one->next + 1) % notice_count;
            one->flood--;
        }
        if (one->out_size == 0) break;
        ssize_t sent = send(fd, one->out + one->out_sent, one->out_size - one->out_sent, MSG_NOSIGNAL);
        if (sent < 0) break;
        one->out_sent += sent;
        if (one->out_sent < one->out_size) continue;
        one->out_sent = one->out_size = 0;
    }
    struct epoll_event event = {.events = EPOLLIN | (one->out_size ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
}

/* -- what is received -- */

/* The value behind a key, without the blank that some clients write; NULL without the key. */
static char *value_of(char *body, size_t size, const char *key) {
    char *at = memmem(body, size, key, strlen(key));
    if (at == NULL) return NULL;
    at += strlen(key);
    return *at == ' ' ? at + 1 : at;
}

static void answer(struct connection *one, char *body, size_t size) {
    char *method = value_of(body, size, "\"method\":"), *id = value_of(body, size, "\"id\":");
    if (method == NULL || id == NULL) return;
    size_t length = strcspn(id + 1, *id == '"' ? "\"" : ",}") + 1 + (*id == '"');
    for (int i = 0; i < method_count; i++) {
        size_t name = methods[i].size;
        if (strncmp(method + 1, methods[i].at, name) != 0 || method[1 + name] != '"') continue;
        static const char start[] = "{\"jsonrpc\": \"2.0\", \"id\": ";
        put_head(one, 1, sizeof start - 1 + length + 2 + answers[i].size);
        put(one, start, sizeof start - 1);
        put(one, id, length);
        put(one, ", ", 2);
        put(one, answers[i].at, answers[i].size);
        if (strncmp(methods[i].at, "flood", 5) == 0) one->flood = atol(value_of(body, size, "\"count\":"));
        return;
    }
}

static void shake_hands(struct connection *one) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char *key = strcasestr(one->in, "sec-websocket-key:"), text[128], reply[256], accept[32];
    unsigned char digest[20];
    if (key == NULL) exit(3);
    key += 18;
    while (*key == ' ') key++;
    int length = snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, "\r"), key, guid);
    sha1((unsigned char *)text, length, digest);
    base64(digest, sizeof digest, accept);
    length = snprintf(reply, sizeof reply,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    put(one, reply, length);
    one->open = 1;
}

/* Take one message off the front; 0 where it is not complete, -1 where the client leaves. */
static int take(struct connection *one, size_t *done) {
    unsigned char *at = (unsigned char *)one->in + *done;
    size_t left = one->in_size - *done, start = 2;
    if (!one->open) {
        char *end = memmem(one->in, one->in_size, "\r\n\r\n", 4);
        if (end == NULL) return 0;
        shake_hands(one);
        *done = end + 4 - one->in;
        return 1;
    }
    if (left < 6) return 0;
    size_t length = at[1] & 127;
    if (length == 126) length = at[2] << 8 | at[3], start = 4;
    if (left < start + 4 + length) return 0;
    unsigned char mask[4];
    memcpy(mask, at + start, 4);
    char *body = (char *)at + start + 4;
    for (size_t i = 0; i < length; i++) body[i] ^= mask[i & 3];
    *done += start + 4 + length;
    int opcode = at[0] & 15;
    if (opcode == 1) answer(one, body, length);
    if (opcode == 9) put_frame(one, 10, body, length);
    if (opcode == 8) put_frame(one, 8, body, length);
    return opcode == 8 ? -1 : 1;
}

static int receive(int fd, struct connection *one) {
    if (one->in_room - one->in_size < PORTION) {
        one->in_room += PORTION;
        one->in = realloc(one->in, one->in_room + 1);
    }
    ssize_t count = recv(fd, one->in + one->in_size, one->in_room - one->in_size, 0);
    if (count <= 0) return -1;
    one->in_size += count;
    one->in[one->in_size] = 0;
    size_t done = 0;
    int more;
    while ((more = take(one, &done)) > 0);
    memmove(one->in, one->in + done, one->in_size - done);
    one->in_size -= done;
    flush_out(fd, one);
    return more;
}

/* -- the rest -- */

static void read_lines(const char *directory, const char *name, int (*keep)(char *line)) {
    char path[4096];
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) exit(2);
    while ((size = getline(&line, &room, file)) > 0) {
        line[size - 1] = 0;
        keep(line);
    }
    fclose(file);
}

static int keep_answer(char *line) {
    char *tab = strchr(line, '\t');
    *tab = 0;
    methods[method_count] = (struct text){strdup(line), strlen(line)};
    answers[method_count++] = (struct text){strdup(tab + 1), strlen(tab + 1)};
    return 0;
}

static int keep_notice(char *line) {
    notices[notice_count++] = (struct text){strdup(line), strlen(line)};
    return 0;
}

static void leave(int fd) {
    free(connections[fd]->in);
    free(connections[fd]->out);
    free(connections[fd]);
    close(fd);
}

int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int on = 1;
    if (argc != 2) return 1;
    read_lines(argv[1], "answers", keep_answer);
    read_lines(argv[1], "notices", keep_notice);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 2000)) return 1;
    getsockname(listener, (struct sockaddr *)&where, &size);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    poll_fd = epoll_create1(0);
    event.data.fd = listener;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0 || fd >= MAX_CONNECTIONS) return 1;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                connections[fd] = calloc(1, sizeof **connections);
                event.data.fd = fd;
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
            } else if (events[i].events & EPOLLIN) {
                if (receive(fd, connections[fd]) < 0) leave(fd);
            } else if (events[i].events & EPOLLOUT) {
                flush_out(fd, connections[fd]);
            } else {
                leave(fd);
            }
        }
    }
}
"""
)
"""The same in C; `_native` builds it."""


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
