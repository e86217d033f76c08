// log_file -- where the lines of the log go: a file that may be moved away, or standard error.
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

// A file that is written behind its end, and made if it is not there. With `another` a user without our rights may be
// the master of its folder, so a symbolic link there is not followed (ELOOP); but those of /dev are the system's own.
// -1 and errno.
inline int open_to_append(const std::string& path, bool another) {
    const int follow = another && !path.starts_with("/dev/") ? O_NOFOLLOW : 0;
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | follow, 0666);
}

// Any thread may write. Lines that come while others are written go out behind those in one write, by the same thread:
// so nobody waits for another's line, unless `most` octets wait. Each thread's lines are in their order. In a pipe,
// where other programs may write too, no write is longer than what stays in one piece there, but for a line that is.
class LogFile {
public:
    // Standard error.
    LogFile() : now_(2) {}
    // Of nothing, until open(). `another`: see open_to_append().
    explicit LogFile(std::string path, bool another = false) : path_(std::move(path)), another_(another) {}
    ~LogFile() {
        if (path_.empty()) return;
        shut(now_.fd);
        shut(next_.fd);
    }
    LogFile(const LogFile&) = delete;
    LogFile& operator=(const LogFile&) = delete;

    // Again: what was moved away is begun anew; where that can't be, it goes on as it was. Waits for nobody: what is
    // being written goes where it went before, lines that come after this has returned go there. std::system_error.
    void open() {
        if (path_.empty()) return;
        const int fd = open_to_append(path_, another_);
        if (fd < 0) throw std::system_error(errno, std::generic_category(), "log: " + path_);
        Place place(fd);
        place.torn = place.regular && !ends_with_a_line(place);
        std::unique_lock lock(mutex_);
        std::swap(next_, place);
        const int old = writing_ ? -1 : take_next();
        lock.unlock();
        shut(place.fd);
        shut(old);
    }

    // A line, without its end. What can't be written is lost. std::bad_alloc.
    void write_line(std::string_view line) {
        std::unique_lock lock(mutex_);
        room_.wait(lock, [&] { return waiting_.size() < most; });
        waiting_.reserve(waiting_.size() + line.size() + 1);
        waiting_.append(line) += '\n';
        if (heir_ || (writing_ && writes_ < many)) return;
        if (writing_) {  // long enough for one thread
            heir_ = true;
            over_.wait(lock, [&] { return !writing_; });
            heir_ = false;
        }
        write_waiting(lock);
    }

    // Makes it theirs, if it is a file of one name: another name might be what they have no right to.
    // std::system_error.
    void give_to(uid_t user, gid_t group) {
        const std::lock_guard lock(mutex_);
        struct stat status {};
        if (path_.empty() || !now_.regular) return;
        if (fstat(now_.fd, &status) == 0 && status.st_nlink > 1) errno = EMLINK;
        else if (fchown(now_.fd, user, group) == 0) return;
        throw std::system_error(errno, std::generic_category(), "log: " + path_);
    }

private:
    static constexpr std::size_t most = 64 << 10;
    static constexpr int many = 8;

    struct Place {
        Place() = default;
        explicit Place(int descriptor) : fd(descriptor) {
            struct stat status {};
            regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
            device = status.st_dev;
            inode = status.st_ino;
        }
        bool same_as(const Place& other) const {
            return fd >= 0 && other.fd >= 0 && device == other.device && inode == other.inode;
        }
        int fd = -1;
        bool regular = false;
        bool torn = false;  // the line before lacks its end
        dev_t device = 0;
        ino_t inode = 0;
    };

    static void shut(int fd) {
        if (fd >= 0) close(fd);
    }
    // Who may not read it is told so.
    bool ends_with_a_line(const Place& place) const {
        const int fd = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        char last = '\n';
        const auto end = fd >= 0 && Place(fd).same_as(place) ? lseek(fd, 0, SEEK_END) : 0;
        const bool known = end > 0 && pread(fd, &last, 1, end - 1) == 1;
        shut(fd);
        return !known || last == '\n';
    }

    // The descriptor that is not needed any more, or -1. With the lock.
    int take_next() {
        if (next_.fd < 0) return -1;
        if (next_.same_as(now_)) next_.torn = now_.torn;
        return std::exchange(now_, std::exchange(next_, Place())).fd;
    }

    void write_waiting(std::unique_lock<std::mutex>& lock) {
        writing_ = true;
        for (writes_ = 0; !waiting_.empty() && !heir_;) {
            const int old = take_next();
            lines_.clear();
            lines_.swap(waiting_);
            if (lines_.size() >= most) room_.notify_all();
            lock.unlock();
            shut(old);
            const int writes = write_lines();
            lock.lock();
            writes_ += writes;
        }
        const int old = take_next();
        writing_ = false;
        over_.notify_one();
        lock.unlock();
        shut(old);
    }

    // How many writes that took.
    int write_lines() {
        int writes = 0;
        for (std::string_view left = lines_; !left.empty(); ++writes) {
            const auto piece = left.substr(0, now_.regular ? left.size() : whole_lines(left));
            left.remove_prefix(piece.size());
            if (now_.torn) now_.torn = write_some_of("\n") == 0;
            if (now_.torn) continue;
            const auto written = write_some_of(piece);
            now_.torn = written > 0 && piece[written - 1] != '\n';
        }
        return writes;
    }
    static std::size_t whole_lines(std::string_view lines) {
        if (lines.size() <= PIPE_BUF) return lines.size();
        const auto end = lines.rfind('\n', PIPE_BUF - 1);
        return (end == lines.npos ? lines.find('\n') : end) + 1;
    }
    // How much.
    std::size_t write_some_of(std::string_view text) const {
        std::size_t written = 0;
        while (written < text.size()) {
            const auto n = write(now_.fd, text.data() + written, text.size() - written);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) break;
            written += static_cast<std::size_t>(n);
        }
        return written;
    }

    const std::string path_{};
    const bool another_ = false;
    std::mutex mutex_;
    std::condition_variable over_;  // a thread's writing; for the heir
    std::condition_variable room_;
    std::string waiting_;
    Place next_{};       // to be written to from now on
    bool heir_ = false;  // somebody waits to go on with it, or is about to
    bool writing_ = false;
    int writes_ = 0;  // of the thread that does
    // Of that thread, or of who holds the lock while there is none.
    std::string lines_;
    Place now_{};
};
