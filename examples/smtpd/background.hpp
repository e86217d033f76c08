// background -- a process that goes on in the background once it serves; who started it waits until then.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

class Background {
public:
    // Only a new process comes back from this, in a session of its own. The first one waits and ends: with 0 when the
    // new one is ready(), with its exit code when that ends before, with 1 when a signal ended it. For a process
    // without other threads. std::system_error.
    Background() {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
        const pid_t child = fork();
        if (child < 0) fail("fork");
        close(ends[child == 0 ? 0 : 1]);
        if (child > 0) _exit(outcome(ends[0], child));
        told_ = ends[1];
        setsid();
        umask(027);
    }
    Background(const Background&) = delete;
    Background& operator=(const Background&) = delete;

    // It serves; its standard descriptors lead nowhere from now on. std::system_error, when nobody waits for it any
    // more: who ended the first process means this one too.
    void ready() {
        const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (nowhere < 0) fail("/dev/null");
        for (int fd = 0; fd <= 2; ++fd)
            if (dup2(nowhere, fd) < 0) fail("/dev/null");
        close(nowhere);
        if (write(told_, "", 1) != 1) fail("ready");
        close(told_);
    }

private:
    [[noreturn]] static void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }
    static int outcome(int fd, pid_t child) {
        char ready;
        ssize_t n;
        while ((n = read(fd, &ready, 1)) < 0 && errno == EINTR) {
        }
        if (n == 1) return 0;
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }

    int told_ = -1;
};
