// target -- what the tests of the final targets share: texts, messages, files, descriptors.
#pragma once

#include <doctest/doctest.h>

#include <fcntl.h>

#include <fstream>
#include <random>
#include <set>

#include "../Server/Content.hpp"
#include "../Server/Files.hpp"
#include "peer.hpp"
#include "sanitized.hpp"

namespace test {

inline Wait ample() { return Clock::now() + 60s; }

// So many octets of these characters; of all there are if none are given.
inline std::string octets(std::size_t size, std::string_view from = {}) {
    std::mt19937 random{unsigned(size)};
    std::string out(size, ' ');
    for (auto& c : out) c = from.empty() ? char(random()) : from[random() % from.size()];
    return out;
}

// 20 MB with many line ends; a tenth where that takes long.
inline std::string large() {
    const auto some = octets(199'999, "abcdefghijklmnopqrstuvwxyz\r\n") + "\r\n";
    std::string out;
    for (int i = 0; i < (sanitized ? 10 : 100); ++i) out += some;
    return out;
}

// The text without the CR of each CRLF, written in another way than ours.
inline std::string with_lf(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i)
        if (!(text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n')) out += text[i];
    return out;
}

// A message in a file that is shorter than it should be.
inline Message damaged(std::size_t size, std::size_t there) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file("/tmp");
    const auto text = octets(there);
    write_all(content->file.get(), text.data(), text.size());
    content->size = size;
    return Message(content);
}

// A message of so many octets that went into a sink.
inline Message sunk(std::size_t size) {
    auto content = std::make_shared<Content>(nullptr);
    content->sunk = true;
    content->size = size;
    return Message(content);
}

// The open ones.
inline std::set<int> descriptors() {
    std::set<int> all;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        all.insert(std::stoi(entry.path().filename()));
    std::erase_if(all, [](int fd) { return fcntl(fd, F_GETFD) < 0; });  // that of the listing
    return all;
}

// Looks, whenever it is asked, at the descriptors that were not open before.
struct Watch {
    // Never calls anything off.
    Wait wait() {
        return {Deadline::max(), [this] {
                    int now = 0;
                    for (const int fd : descriptors()) {
                        if (before.contains(fd)) continue;
                        ++now;
                        if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC)) ++inheritable;
                    }
                    most = std::max(most, now);
                    return false;
                }};
    }
    std::set<int> before = descriptors();
    int most = 0, inheritable = 0;
};

}  // namespace test
