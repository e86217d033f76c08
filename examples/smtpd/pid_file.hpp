// pid_file -- a file that holds the number of this process as long as it serves.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

class PidFile {
public:
    // Written over if it is there. As root that becomes `another` user no link is followed (ELOOP, EMLINK), as that
    // user may be the master of its folder; it stays root's. std::system_error.
    PidFile(std::string path, bool another) : path_(std::move(path)) {
        const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (another ? O_NOFOLLOW : 0), 0644);
        if (fd < 0) fail(errno);
        const int error = write_to(fd, another);
        close(fd);
        if (error != 0) fail(error);
    }
    // Removes it, if it holds our number still and we may.
    ~PidFile() {
        std::string there;
        std::getline(std::ifstream(path_), there);
        if (there == number_) unlink(path_.c_str());
    }
    PidFile(const PidFile&) = delete;
    PidFile& operator=(const PidFile&) = delete;

private:
    // 0, or the errno.
    int write_to(int fd, bool another) const {
        struct stat status {};
        if (fstat(fd, &status) != 0) return errno;
        if (another && S_ISREG(status.st_mode) && status.st_nlink > 1) return EMLINK;
        const auto line = number_ + '\n';
        if (ftruncate(fd, 0) != 0) return errno;
        const auto n = write(fd, line.data(), line.size());
        if (n < 0) return errno;
        return n == static_cast<ssize_t>(line.size()) ? 0 : ENOSPC;
    }
    [[noreturn]] void fail(int error) const {
        throw std::system_error(error, std::generic_category(), "pid_file: " + path_);
    }

    const std::string path_;
    const std::string number_ = std::to_string(getpid());
};
