// PostgresMail -- mail on its way into rows of PostgreSQL and back; for our own .cpp files only, it is not installed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "PostgresConnection.hpp"
#include "Store.hpp"

namespace Net::SMTP {

// Milliseconds that the database's clock is ahead of ours.
struct PostgresClock {
    std::int64_t ahead = 0;
    std::int64_t theirs(QueueTime ours) const;
    QueueTime ours(std::int64_t theirs) const;
};

// A mail to be put, ready to be sent by any thread: a text that fits into one row is in memory.
class PostgresPut {
public:
    // std::invalid_argument names what QueuedMail does not allow; StoreError when the text can't be read. `mail` must
    // outlive it.
    PostgresPut(const QueuedMail& mail, PostgresClock);
    bool large() const { return large_; }
    // All its rows, within the transaction that has begun. A large text is read meanwhile: StoreError.
    void send(PostgresConnection&) const;

private:
    void send_recipients(PostgresConnection&) const;
    const QueuedMail& mail_;
    std::int64_t due_;
    bool large_;
    std::string room_;
    std::string_view text_;
};

// The verdicts about a task in columns.
class PostgresVerdicts {
public:
    // std::invalid_argument when two are about one recipient. What they refer to must outlive it.
    PostgresVerdicts(const QueueTask& task, std::span<const QueueVerdict> verdicts, std::int64_t owner, PostgresClock);
    void send(PostgresConnection&) const;

private:
    const QueueTask& task_;
    const std::int64_t owner_;
    std::vector<std::int32_t> done_, later_, attempts_;
    std::vector<std::int64_t> dues_;
    std::vector<char> warned_;
    std::vector<std::string> replies_;
    std::vector<std::optional<std::string_view>> hosts_;
};

std::vector<QueueTask> tasks_of(const PostgresRows&, std::uint64_t turn);
std::vector<QueueItem> items_of(const PostgresRows&, PostgresClock);

// A message of `size` octets that come piece by piece: in memory, or in a file without a name in `folder` where it is
// large. `more` gives the next piece, "" at the end. StoreError when there is no room, or it has another size.
Message message_of(std::uint64_t size, const std::string& folder, const std::function<std::string_view()>& more);

StoreError store_error(const PostgresFailure&);

}  // namespace Net::SMTP
