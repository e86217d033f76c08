// log_file -- where the lines of the log go: a file that may be moved away, or standard error.
#pragma once

#include <Poco/Channel.h>
#include <Poco/Message.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
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

// A line is one write: Poco's own takes several, each of them a system call.
class StderrChannel : public Poco::Channel {
public:
    void log(const Poco::Message& message) override { write_all_of(2, message.getText() + '\n'); }
};

// Poco's own crashes when it is closed while another thread writes, and writes no more after its disk was full.
class LogFile : public Poco::Channel {
public:
    explicit LogFile(std::string path) : path_(std::move(path)) {}
    ~LogFile() override {
        if (fd_ >= 0) ::close(fd_);
    }

    // Again: what was moved away is begun anew; where that can't be, it goes on as it was. std::system_error.
    void open() override {
        const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0) throw std::system_error(errno, std::generic_category(), "log: " + path_);
        const std::lock_guard lock(mutex_);
        const int old = std::exchange(fd_, fd);
        torn_ = false;
        if (old >= 0) ::close(old);
    }
    void log(const Poco::Message& message) override {
        const std::lock_guard lock(mutex_);
        torn_ = !write_all_of(fd_, (torn_ ? "\n" : "") + message.getText() + '\n');
    }

private:
    const std::string path_;
    std::mutex mutex_;
    int fd_ = -1;
    bool torn_ = false;  // the line before may lack its end
};
