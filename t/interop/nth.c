// nth -- loaded into a program (LD_PRELOAD): counts its calls by kind, and makes the n-th of one kind fail.
//
// The file named by NTH in the environment is mapped, and is a struct Control: who holds it too arms and disarms, and reads
// what was counted. Nothing here allocates. A fault is an errno, or SHORT: one octet is read or written. A second one is
// counted from where the first came to pass.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SHORT = -1, FRAMES = 32 };

// nth.py reads these names, in this order.
enum Kind {
    ACCEPT, SOCKET, BIND, LISTEN, CONNECT, SETSOCKOPT, RECV, READ, PREAD, SEND, WRITE, PWRITE, POLL, OPEN, CLOSE, FSYNC, LINK, RENAME,
    UNLINK, FTRUNCATE, FALLOCATE, MKDIR, STAT, FCNTL, MMAP, THREAD, FORK, PIPE, EVENTFD, EPOLL, WATCH, RANDOM, LOOKUP, MALLOC, KINDS
};

struct Fault {
    int32_t kind, fault, at, times, seen, fired;  // `seen`: calls that were its own to count
};

struct Control {
    int32_t armed, frames;
    struct Fault first, second;
    uint64_t where[FRAMES];  // who made the call that failed first
    int32_t counts[64];
};

static struct Control* control;
static int started;  // main() was: what fails before that, the language itself can only abort for
static __thread int inside __attribute__((tls_model("initial-exec")));
static __thread int has_memory __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void begin(void) {
    const char* path = getenv("NTH");
    if (!path) return;
    void* first[1];
    backtrace(first, 1);  // the first time it loads a library
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void* page = (void*)syscall(SYS_mmap, 0, sizeof(struct Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (page != MAP_FAILED) control = page;
}

// Whether it is this call that it means.
static int meets(struct Fault* it, enum Kind kind) {
    if (kind != (enum Kind)it->kind) return 0;
    const int number = __atomic_add_fetch(&it->seen, 1, __ATOMIC_RELAXED);
    return number >= it->at && number < it->at + it->times;
}

// What is to become of this call: 0, an errno or SHORT.
static int fault(enum Kind kind) {
    if (!control || !started || !__atomic_load_n(&control->armed, __ATOMIC_ACQUIRE) || inside) return 0;
    if (kind == MALLOC && has_memory) return 0;
    __atomic_add_fetch(&control->counts[kind], 1, __ATOMIC_RELAXED);
    const int before = __atomic_load_n(&control->first.fired, __ATOMIC_ACQUIRE);
    if (!meets(&control->first, kind)) {
        if (!before || !meets(&control->second, kind)) return 0;
        __atomic_add_fetch(&control->second.fired, 1, __ATOMIC_RELAXED);
        return control->second.fault;
    }
    if (__atomic_fetch_add(&control->first.fired, 1, __ATOMIC_RELEASE) == 0) {
        inside = 1;
        control->frames = backtrace((void**)control->where, FRAMES);
        inside = 0;
    }
    return control->first.fault;
}

// Looking these up would allocate.
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

// The next one of that name, which is the system's.
#define REAL(name) \
    static __typeof__(name)* real; \
    if (!real) real = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)

// What threads wake each other by (an eventfd, a pair of sockets) can't fail.
static int wakes(int fd) {
    struct stat about;
    return syscall(SYS_fstat, fd, &about) == 0 && ((about.st_mode & S_IFMT) == 0 || S_ISSOCK(about.st_mode));
}

typedef int Main(int, char**, char**);
static Main* real_main;
static int begin_main(int count, char** arguments, char** environment) {
    started = 1;
    return real_main(count, arguments, environment);
}
int __libc_start_main(Main* main, int count, char** arguments, Main* init, void (*fini)(void), void (*rtld_fini)(void), void* stack) {
    __typeof__(__libc_start_main)* const real = (__typeof__(__libc_start_main)*)dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = main;
    return real(begin_main, count, arguments, init, fini, rtld_fini, stack);
}

// Who was told that a connection is broken finds it so from then on.
static int broken(int fd, int error) {
    if (error == EPIPE || error == ECONNRESET) syscall(SYS_shutdown, fd, SHUT_RDWR);
    return error;
}

// A call that fails, or not.
#define WRAP(kind, result, failed, name, parameters, arguments) \
    result name parameters { \
        const int error = fault(kind); \
        if (error) return errno = error, failed; \
        REAL(name); \
        return real arguments; \
    }

// A call that fails, is short, or neither.
#define WRAP_SHORT(kind, name, parameters, count, arguments) \
    ssize_t name parameters { \
        const int error = fault(kind); \
        if (error == SHORT) count = count > 1 ? 1 : count; \
        else if (error) return errno = broken(fd, error), -1; \
        REAL(name); \
        return real arguments; \
    }

WRAP(ACCEPT, int, -1, accept, (int fd, struct sockaddr* from, socklen_t* size), (fd, from, size))
WRAP(ACCEPT, int, -1, accept4, (int fd, struct sockaddr* from, socklen_t* size, int flags), (fd, from, size, flags))
WRAP(SOCKET, int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(BIND, int, -1, bind, (int fd, const struct sockaddr* to, socklen_t size), (fd, to, size))
WRAP(LISTEN, int, -1, listen, (int fd, int backlog), (fd, backlog))
WRAP(CONNECT, int, -1, connect, (int fd, const struct sockaddr* to, socklen_t size), (fd, to, size))
WRAP(SETSOCKOPT, int, -1, setsockopt, (int fd, int level, int name, const void* value, socklen_t size), (fd, level, name, value, size))
WRAP_SHORT(RECV, recv, (int fd, void* octets, size_t count, int flags), count, (fd, octets, count, flags))
WRAP_SHORT(SEND, send, (int fd, const void* octets, size_t count, int flags), count, (fd, octets, count, flags))
WRAP_SHORT(SEND, sendto, (int fd, const void* octets, size_t count, int flags, const struct sockaddr* to, socklen_t size), count, (fd, octets, count, flags, to, size))
WRAP_SHORT(RECV, recvfrom, (int fd, void* octets, size_t count, int flags, struct sockaddr* from, socklen_t* size), count, (fd, octets, count, flags, from, size))
WRAP(RECV, ssize_t, -1, recvmsg, (int fd, struct msghdr* message, int flags), (fd, message, flags))
WRAP(SEND, ssize_t, -1, sendmsg, (int fd, const struct msghdr* message, int flags), (fd, message, flags))
WRAP_SHORT(SEND, sendfile, (int fd, int from, off_t* at, size_t count), count, (fd, from, at, count))
WRAP_SHORT(PREAD, pread, (int fd, void* octets, size_t count, off_t at), count, (fd, octets, count, at))
WRAP_SHORT(PREAD, pread64, (int fd, void* octets, size_t count, off64_t at), count, (fd, octets, count, at))
WRAP(WRITE, ssize_t, -1, writev, (int fd, const struct iovec* parts, int count), (fd, parts, count))
WRAP_SHORT(PWRITE, pwrite, (int fd, const void* octets, size_t count, off_t at), count, (fd, octets, count, at))
WRAP_SHORT(PWRITE, pwrite64, (int fd, const void* octets, size_t count, off64_t at), count, (fd, octets, count, at))
WRAP(POLL, int, -1, poll, (struct pollfd* them, nfds_t count, int wait), (them, count, wait))
WRAP(FSYNC, int, -1, fsync, (int fd), (fd))
WRAP(FSYNC, int, -1, fdatasync, (int fd), (fd))
WRAP(LINK, int, -1, link, (const char* from, const char* to), (from, to))
WRAP(LINK, int, -1, linkat, (int a, const char* from, int b, const char* to, int flags), (a, from, b, to, flags))
WRAP(RENAME, int, -1, rename, (const char* from, const char* to), (from, to))
WRAP(RENAME, int, -1, renameat, (int a, const char* from, int b, const char* to), (a, from, b, to))
WRAP(UNLINK, int, -1, unlink, (const char* path), (path))
WRAP(UNLINK, int, -1, unlinkat, (int fd, const char* path, int flags), (fd, path, flags))
WRAP(FTRUNCATE, int, -1, ftruncate, (int fd, off_t size), (fd, size))
WRAP(FTRUNCATE, int, -1, ftruncate64, (int fd, off64_t size), (fd, size))
WRAP(FTRUNCATE, int, -1, truncate, (const char* path, off_t size), (path, size))
WRAP(FALLOCATE, int, -1, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
WRAP(MKDIR, int, -1, mkdir, (const char* path, mode_t mode), (path, mode))
WRAP(STAT, int, -1, stat, (const char* path, struct stat* about), (path, about))
WRAP(STAT, int, -1, stat64, (const char* path, struct stat64* about), (path, about))
WRAP(STAT, int, -1, lstat64, (const char* path, struct stat64* about), (path, about))
WRAP(STAT, int, -1, fstat, (int fd, struct stat* about), (fd, about))
WRAP(STAT, int, -1, fstat64, (int fd, struct stat64* about), (fd, about))
WRAP(FORK, pid_t, -1, fork, (void), ())
WRAP(PIPE, int, -1, pipe2, (int ends[2], int flags), (ends, flags))
WRAP(PIPE, int, -1, socketpair, (int domain, int type, int protocol, int ends[2]), (domain, type, protocol, ends))
WRAP(EPOLL, int, -1, epoll_wait, (int fd, struct epoll_event* events, int most, int wait), (fd, events, most, wait))
WRAP(WATCH, int, -1, epoll_ctl, (int fd, int what, int of, struct epoll_event* event), (fd, what, of, event))
WRAP(EVENTFD, int, -1, eventfd, (unsigned first, int flags), (first, flags))
WRAP(RANDOM, ssize_t, -1, getrandom, (void* octets, size_t count, unsigned flags), (octets, count, flags))
WRAP(MMAP, void*, MAP_FAILED, mmap, (void* at, size_t size, int rights, int flags, int fd, off_t from), (at, size, rights, flags, fd, from))
WRAP(MMAP, void*, MAP_FAILED, mmap64, (void* at, size_t size, int rights, int flags, int fd, off64_t from), (at, size, rights, flags, fd, from))

ssize_t read(int fd, void* octets, size_t count) {
    const int error = wakes(fd) ? 0 : fault(READ);
    if (error == SHORT) count = count > 1 ? 1 : count;
    else if (error) return errno = error, -1;
    return syscall(SYS_read, fd, octets, count);
}

ssize_t write(int fd, const void* octets, size_t count) {
    const int error = wakes(fd) ? 0 : fault(WRITE);
    if (error == SHORT) count = count > 1 ? 1 : count;
    else if (error) return errno = error, -1;
    return syscall(SYS_write, fd, octets, count);
}

// A descriptor is gone however its close() ends.
int close(int fd) {
    const int error = fault(CLOSE);
    const int result = (int)syscall(SYS_close, fd);
    return error ? errno = error, -1 : result;
}

// mremap() and fcntl() have more or fewer arguments; taking one too many does no harm here.
void* mremap(void* at, size_t before, size_t after, int flags, ...) {
    va_list more;
    va_start(more, flags);
    void* to = va_arg(more, void*);
    va_end(more);
    const int error = fault(MMAP);
    if (error) return errno = error, MAP_FAILED;
    return (void*)syscall(SYS_mremap, at, before, after, flags, to);
}

// A lock can always be given back.
static int unlocks(int what, const void* argument) {
    return (what == F_SETLK || what == F_OFD_SETLK) && ((const struct flock*)argument)->l_type == F_UNLCK;
}

#define FCNTL_NAMED(name) \
    int name(int fd, int what, ...) { \
        va_list more; \
        va_start(more, what); \
        void* argument = va_arg(more, void*); \
        va_end(more); \
        const int error = unlocks(what, argument) ? 0 : fault(FCNTL); \
        if (error) return errno = error, -1; \
        REAL(name); \
        return real(fd, what, argument); \
    }
FCNTL_NAMED(fcntl)
FCNTL_NAMED(fcntl64)

#define OPEN_NAMED(name) \
    int name(const char* path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        const mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        const int error = fault(OPEN); \
        if (error) return errno = error, -1; \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
    }
OPEN_NAMED(open)
OPEN_NAMED(open64)

// These return their errors.
int posix_fallocate(int fd, off_t at, off_t size) {
    const int error = fault(FALLOCATE);
    if (error) return error;
    REAL(posix_fallocate);
    return real(fd, at, size);
}

struct Start {
    void* (*function)(void*);
    void* argument;
};

static void* with_memory(void* given) {
    const struct Start start = *(struct Start*)given;
    __libc_free(given);
    has_memory = 1;
    return start.function(start.argument);
}

// libunbound's own thread crashes for lack of memory: so it has some.
int pthread_create(pthread_t* id, const pthread_attr_t* how, void* (*function)(void*), void* argument) {
    const int error = fault(THREAD);
    if (error) return error;
    REAL(pthread_create);
    Dl_info whose;
    struct Start* start = NULL;
    if (dladdr((void*)function, &whose) && strstr(whose.dli_fname, "libunbound") && (start = __libc_malloc(sizeof *start)))
        *start = (struct Start){function, argument};
    return start ? real(id, how, with_memory, start) : real(id, how, function, argument);
}

int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* files, const posix_spawnattr_t* how, char* const arguments[], char* const environment[]) {
    const int error = fault(FORK);
    if (error) return error;
    REAL(posix_spawn);
    return real(pid, path, files, how, arguments, environment);
}

int getaddrinfo(const char* host, const char* port, const struct addrinfo* hints, struct addrinfo** found) {
    const int error = fault(LOOKUP);
    if (error) return error;
    REAL(getaddrinfo);
    return real(host, port, hints, found);
}

// operator new comes here too.
void* malloc(size_t size) { return fault(MALLOC) ? errno = ENOMEM, NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fault(MALLOC) ? errno = ENOMEM, NULL : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return fault(MALLOC) ? errno = ENOMEM, NULL : __libc_realloc(old, size); }
void* aligned_alloc(size_t boundary, size_t size) { return fault(MALLOC) ? errno = ENOMEM, NULL : __libc_memalign(boundary, size); }
