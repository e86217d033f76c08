// log_file -- where the lines of the log go: a file that may be moved away, or standard error.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

// False: not all of it could be written.
inline bool write_all_of(int fd, std::string_view text) {
    while (!text.empty()) {
        const auto n = write(fd, text.data(), text.size());
        if (n < 0 && errno != EINTR) return false;
        text.remove_prefix(n < 0 ? 0 : static_cast<std::size_t>(n));
    }
    return true;
}

// Any thread may write. Lines that come while others are written go out after those in one write, by the same thread:
// so nobody waits for another's line, unless `most` octets wait. They are in the file in the order they came.
class LogFile {
public:
    // Standard error.
    LogFile() : fd_(2) {}
    // Of nothing, until open().
    explicit LogFile(std::string path) : path_(std::move(path)) {}
    ~LogFile() {
        if (!path_.empty() && fd_ >= 0) close(fd_);
    }
    LogFile(const LogFile&) = delete;
    LogFile& operator=(const LogFile&) = delete;

    // Again: what was moved away is begun anew; where that can't be, it goes on as it was. std::system_error.
    void open() {
        if (path_.empty()) return;
        const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0) throw std::system_error(errno, std::generic_category(), "log: " + path_);
        std::unique_lock lock(mutex_);
        over_.wait(lock, [&] { return !writing_; });
        const int old = std::exchange(fd_, fd);
        torn_ = false;
        lock.unlock();
        if (old >= 0) close(old);
    }

    // A line, without its end. What can't be written is lost. std::bad_alloc.
    void write_line(std::string_view line) {
        std::unique_lock lock(mutex_);
        over_.wait(lock, [&] { return !writing_ || waiting_.size() < most; });
        waiting_.reserve(waiting_.size() + line.size() + 1);
        waiting_.append(line) += '\n';
        if (writing_ && (rounds_ < many || heir_)) return;
        if (writing_) {  // long enough for one thread
            heir_ = true;
            over_.wait(lock, [&] { return !writing_; });
            heir_ = false;
        }
        write_waiting(lock);
    }

private:
    static constexpr std::size_t most = 64 << 10;
    static constexpr int many = 8;

    void write_waiting(std::unique_lock<std::mutex>& lock) {
        writing_ = true;
        for (rounds_ = 0; !waiting_.empty() && !heir_; ++rounds_) {
            lines_.clear();
            lines_.swap(waiting_);
            lock.unlock();
            const bool whole = (!torn_ || write_all_of(fd_, "\n")) && write_all_of(fd_, lines_);
            lock.lock();
            torn_ = !whole;
        }
        writing_ = false;
        over_.notify_all();
    }

    const std::string path_;
    std::mutex mutex_;
    std::condition_variable over_;  // a thread's writing
    std::string waiting_;
    bool heir_ = false;  // somebody waits to go on with it
    bool writing_ = false;
    int rounds_ = 0;  // writes of the thread that does
    // Of that thread, or of who holds the lock while there is none.
    std::string lines_;
    int fd_ = -1;
    bool torn_ = false;  // the line before may lack its end
};
