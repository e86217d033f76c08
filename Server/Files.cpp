#include "Files.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <random>
#include <system_error>

#include "Wait.hpp"

namespace Net::SMTP {

namespace {

[[noreturn]] void fail(const std::string& what, int error = errno) {
    throw std::system_error(error, std::generic_category(), what);
}

std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

void sync_folder(const std::string& folder) {
    Descriptor dir(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir || fsync(dir.get()) != 0) fail("fsync " + folder);
}

// Names a file that has none. False if the system does not know how.
bool link_unnamed(int fd, const std::string& path) {
    const auto self = "/proc/self/fd/" + std::to_string(fd);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
    if (errno == EEXIST || errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EACCES) fail("link " + path);
    return false;
}

// A file with a name of its own in the folder, for systems without O_TMPFILE.
Descriptor named_file(const std::string& folder, std::string& name, unsigned mode) {
    for (int attempt = 0; attempt < 100; ++attempt) {
        std::random_device random;
        name = folder + "/.mail-" + std::to_string(random()) + std::to_string(random());
        Descriptor fd(open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
        if (fd) return fd;
        if (errno != EEXIST) break;
    }
    fail("create a file in " + folder);
}

Descriptor try_unnamed(const std::string& folder, unsigned mode) {
#ifdef O_TMPFILE
    return Descriptor(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
#else
    (void)folder, (void)mode;
    return {};
#endif
}

// The file has its name; whether the name would survive is known only when the folder is synced.
void keep_name(const std::string& path) {
    try {
        sync_folder(folder_of(path));
    } catch (...) {
        unlink(path.c_str());
        throw;
    }
}

}  // namespace

Descriptor unnamed_file(const std::string& folder) {
    // The system takes the umask off; name_durably() looks at what is left.
    auto fd = try_unnamed(folder, 0777);
    if (fd) return fd;
    if (errno == ENOSPC || errno == EACCES || errno == ENOENT || errno == EMFILE || errno == ENFILE)
        fail("create a file in " + folder);
    std::string name;
    fd = named_file(folder, name, 0777);
    unlink(name.c_str());
    return fd;
}

void write_all(int fd, const char* from, std::size_t size) {
    while (size > 0) {
        const auto n = write(fd, from, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("write");
        if (n == 0) fail("write", ENOSPC);
        from += n;
        size -= static_cast<std::size_t>(n);
    }
}

namespace {

void wait_to_write(int fd, Deadline end) {
    pollfd out{fd, POLLOUT, 0};
    const int ready = poll(&out, 1, milliseconds_until(end));
    if (ready < 0 && errno != EINTR) fail("write");
    if (ready == 0) fail("write", ETIMEDOUT);
}

sigset_t pipe_signal() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

bool pipe_signal_pending() {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

}  // namespace

void write_waiting(int fd, const char* from, std::size_t size, std::chrono::seconds patience) {
    const NoPipeSignal held;
    bool socket = true;
    auto end = std::chrono::steady_clock::now() + patience;
    while (size > 0) {
        // After POLLOUT so much of a pipe is free, and the write does not block.
        if (!socket) wait_to_write(fd, end);
        const auto n = socket ? send(fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                              : write(fd, from, std::min(size, std::size_t{PIPE_BUF}));
        if (n > 0) {
            from += n;
            size -= std::size_t(n);
            end = std::chrono::steady_clock::now() + patience;
        } else if (n < 0 && errno == ENOTSOCK) {
            socket = false;
            if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) fail("write", EBADF);  // poll(2) would wait for ever
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            wait_to_write(fd, end);
        } else if (n == 0 || errno != EINTR) {
            fail("write", n == 0 ? ENOSPC : errno);
        }
    }
}

NoPipeSignal::NoPipeSignal() : pending_(pipe_signal_pending()) {
    const auto set = pipe_signal();
    pthread_sigmask(SIG_BLOCK, &set, &before_);
}

NoPipeSignal::~NoPipeSignal() {
    if (!pending_ && pipe_signal_pending()) {
        const auto set = pipe_signal();
        const timespec now{};
        sigtimedwait(&set, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

NewFile::NewFile(std::string path, unsigned mode) : path_(std::move(path)) {
    const auto folder = folder_of(path_);
    fd_ = try_unnamed(folder, mode);
    if (fd_) return;
    fd_ = named_file(folder, temporary_, mode);
}

NewFile::~NewFile() {
    if (!temporary_.empty()) unlink(temporary_.c_str());
}

void NewFile::commit() {
    if (fsync(fd_.get()) != 0) fail("fsync " + path_);
    if (temporary_.empty()) {
        if (!link_unnamed(fd_.get(), path_)) fail("link " + path_);
    } else {
        if (link(temporary_.c_str(), path_.c_str()) != 0) fail("link " + path_);
        unlink(temporary_.c_str());
        temporary_.clear();
    }
    keep_name(path_);
}

bool name_durably(int fd, const std::string& path, unsigned mode) {
    struct stat status {};
    if (fstat(fd, &status) != 0 || fchmod(fd, status.st_mode & mode & 0777) != 0) fail("chmod " + path);
    // Whoever tries another name after a failure finds the mode as it was.
    const auto restore = [&] { fchmod(fd, status.st_mode & 0777); };
    try {
        if (fsync(fd) != 0) fail("fsync " + path);
        if (!link_unnamed(fd, path)) return restore(), false;
        keep_name(path);
    } catch (...) {
        restore();
        throw;
    }
    return true;
}

}  // namespace Net::SMTP
