// Arrivals -- how many mails have come to the next hop of what is measured, in memory that programs share.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

// Written by the next hop alone, read by anybody; a file that is just this, so that a script can play the next hop.
// The numbers only grow, and a mail counts before its 250 is sent.
struct Arrivals {
    std::atomic<std::uint64_t> pid;  // of the next hop: what it uses disturbs nobody by accident
    std::atomic<std::uint64_t> connections;
    std::atomic<std::uint64_t> messages;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(Arrivals) == 24);

// Maps the file, and makes it so long if it is not. Mapped until the program ends. std::system_error with the path.
inline Arrivals& arrivals(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void* memory = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof(Arrivals)) == 0)
        memory = mmap(nullptr, sizeof(Arrivals), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const int error = errno;
    if (fd >= 0) close(fd);
    if (memory == MAP_FAILED) throw std::system_error(error, std::generic_category(), path);
    return *static_cast<Arrivals*>(memory);
}
