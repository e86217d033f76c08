// Maildir -- final delivery into a maildir.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "LineEnds.hpp"
#include "Target.hpp"

namespace Net::SMTP {

// Each message becomes one file in `new`, whoever and however many its recipients are: Return-Path, then `head`, then
// the text. It is written in `tmp`, fsynced, moved to `new`, and `new` is fsynced, before anybody hears "Delivered";
// until then no reader sees it, and after any failure nothing of it is left. Threads, processes and machines may
// deliver into one maildir at once, and readers may take from it.
//
// The names are TIME.MmicrosecondsPpidQnumberRrandom.HOST,S=SIZE. What a process that died left in `tmp` is for the
// readers to remove, as they do when it is 36 hours old.
class Maildir final : public Target {
public:
    struct Options {
        LineEnds line_ends = LineEnds::lf;
        unsigned mode = 0600;    // of the files, as of open(2), with umask
        std::string hostname{};  // in the names; '/', ':' and the like are escaped. Empty: the system's
    };

    // `path` is absolute: std::invalid_argument names it otherwise, or if it is "/" or holds a NUL. Nothing is looked
    // at yet. The first delivery makes what is missing of the maildir and its tmp, new and cur, durably and with mode
    // 0700; the folder the maildir is in must be there.
    explicit Maildir(std::string path);
    Maildir(std::string path, const Options& options);

    // The same reply for all: 250 2.0.0 Delivered; 452 4.3.1 when there is no room, 452 4.2.2 when a quota is used up;
    // 451 4.4.7 when `wait` was over before the message was on the disk; 451 4.3.0 for whatever else the system
    // refuses. No reply holds a path. `wait` is looked at before each 64 KiB and before the file is moved to `new`; the
    // two fsyncs take as long as they take.
    std::vector<Reply> deliver(const Sender& from, std::span<const Recipient> to, const Message& message,
                               const std::string& head, const Wait& wait) override;

    // "maildir:" and the path.
    std::string name() const override;

private:
    std::optional<Reply> store(const Sender&, const Message&, const std::string& head, const Wait&);
    void make_folders();
    std::string unique_name();

    std::string path_;
    Options options_;
    std::string hostname_;
    std::atomic<std::uint64_t> number_{0};
    std::atomic<bool> made_{false};
};

}  // namespace Net::SMTP
