// SqliteStore -- a queue's mail in a folder of this machine: a database, and files for what is large.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "Store.hpp"

namespace Net::SMTP {

class SqliteState;

// A store of one machine. Any number of its processes may use a folder at once; one of them delivers (see lead()): the
// others get false until it has ended. The folder must lie on a file system of this machine, not of a network, and
// nobody else needs a right to it: it is made at the first call, with mode 0700, if it is not there. What lies in it is
// a whole; a copy is made with the programs stopped.
//
// Each commit is one fdatasync for all who want one at that moment. Mail is given out by a process that leads; what it
// had given out is free again when it is dead. A lock of another process is waited for 5 seconds, and each call ends
// within half a minute, but for what the disk itself takes; flush_domain() and flush_all() go in steps, and what they
// have done stays done when a later one throws.
//
// In a process that has stores, fork() waits until no call is inside the database, and closes its connections before:
// a child must not inherit them.
class SqliteStore final : public Store {
public:
    struct Options {
        // A text of more octets is a file of its own; 128 KiB is where that is quicker.
        std::size_t file_above = 128 << 10;
        // Octets that the database's own log holds before they are moved to their place. It may be up to four times as
        // large while somebody reads old pages. As much again is set aside in a file, so that on a full disk mail can
        // still be delivered; nothing is put then (452) until it could be set aside again, or that has made room.
        std::size_t log_size = 32 << 20;
        // Octets of the database that a process keeps in memory, at most, to write; for each of up to eight readers a
        // quarter of it.
        std::size_t cache_size = 32 << 20;
        // Of a new database: a power of two from 512 to 65536.
        std::size_t page_size = 16384;
    };

    // Neither opens anything. std::invalid_argument when `folder` is empty.
    explicit SqliteStore(std::string folder);
    SqliteStore(std::string folder, Options options);
    ~SqliteStore() override;

    // Makes the folder, if it can.
    void apply(SMTP::Options& options) const override;
    void put(const QueuedMail& mail) override;

    bool lead() override;
    std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) override;
    std::optional<QueueTime> due(const std::string& domain) override;
    bool changed() override;
    // std::logic_error without lead().
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override;
    Message text(const QueueTask& task) override;
    bool record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                std::span<const QueuedMail> notices) override;
    void give_back(const QueueTask& task) override;

    Cancelled cancel(const std::string& id) override;
    bool hold(const std::string& id) override;
    bool release(const std::string& id) override;
    std::uint64_t flush(const std::string& id) override;
    std::uint64_t flush_domain(const std::string& domain) override;
    std::uint64_t flush_all() override;

    std::vector<QueueItem> items(std::int64_t after, std::size_t limit) override;
    std::optional<QueueItem> item(const std::string& id) override;
    std::optional<Message> look(const std::string& id) override;
    QueueStats stats() override;

    std::optional<std::string> setting(const std::string& name) override;
    void set(const std::string& name, const std::string& value) override;

    std::string name() const override;

    // Removes files that no mail has: those of processes that died before they could name them in the database, or
    // remove them. How many. lead() does it once; it may be called at any time.
    std::uint64_t sweep();

private:
    SqliteState& state() const;
    const std::string folder_;
    const Options options_;
    mutable std::atomic<SqliteState*> state_{nullptr};
};

}  // namespace Net::SMTP
