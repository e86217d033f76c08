// shim -- loaded into a program (LD_PRELOAD) to make its system calls fail when a file says so.
//
// The file is named by SHIM in the environment; it is looked at in each call. A word in it, on a line of its own, is a
// fault:
//     fsync       fsync() and fdatasync() fail with EIO
//     fsync-room  the same with ENOSPC
//     commit      fsync() and fdatasync() of a database's log fail with EIO, those of others don't
//     commit-room the same with ENOSPC
//     lie         fsync() and fdatasync() do nothing, and say that all is well
//     lie-folder  the same of folders alone
//     room        write(), pwrite() and posix_fallocate() of files fail with ENOSPC
//     io          the same with EIO
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int told(const char* fault) {
    const char* path = getenv("SHIM");
    if (!path) return 0;
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char words[256] = "\n";
    const long count = syscall(SYS_read, fd, words + 1, sizeof words - 2);
    syscall(SYS_close, fd);
    if (count <= 0) return 0;
    char line[32] = "\n";
    strcat(strcat(line, fault), "\n");
    return strstr(words, line) != 0;
}

static int is_file(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

static int is_folder(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISDIR(about.st_mode);
}

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t size = readlink(link, path, sizeof path);
    return size > 4 && memcmp(path + size - 4, "-wal", 4) == 0;
}

static int synced(int fd, int call) {
    if (is_log(fd) && told("commit")) return errno = EIO, -1;
    if (is_log(fd) && told("commit-room")) return errno = ENOSPC, -1;
    if (told("lie") || (is_folder(fd) && told("lie-folder"))) return 0;
    if (told("fsync")) return errno = EIO, -1;
    if (told("fsync-room")) return errno = ENOSPC, -1;
    return (int)syscall(call, fd);
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int no_writing(int fd) {
    if (!is_file(fd)) return 0;
    return told("room") ? ENOSPC : told("io") ? EIO : 0;
}

ssize_t write(int fd, const void* octets, size_t count) {
    const int error = no_writing(fd);
    if (error) return errno = error, -1;
    return syscall(SYS_write, fd, octets, count);
}

ssize_t pwrite(int fd, const void* octets, size_t count, off_t at) {
    const int error = no_writing(fd);
    if (error) return errno = error, -1;
    return syscall(SYS_pwrite64, fd, octets, count, at);
}

ssize_t pwrite64(int fd, const void* octets, size_t count, off64_t at) { return pwrite(fd, octets, count, at); }

int posix_fallocate(int fd, off_t at, off_t count) {
    const int error = no_writing(fd);
    if (error) return error;
    int (*real)(int, off_t, off_t) = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
    return real(fd, at, count);
}
