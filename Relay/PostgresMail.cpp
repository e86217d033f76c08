#include "PostgresMail.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <unordered_map>

#include "../Server/Content.hpp"
#include "../Server/Files.hpp"
#include "PostgresSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

// Times further away than this, on either side, are none that a clock says; nothing is added to them.
constexpr std::int64_t end_of_time = std::int64_t{1} << 60;

std::int64_t moved(std::int64_t time, std::int64_t by) {
    return time > end_of_time || time < -end_of_time ? time : time + by;
}

std::vector<std::optional<std::string_view>> views(const std::vector<std::string>& values) {
    return {values.begin(), values.end()};
}

Sender sender_of(const PostgresRows& rows, int row) {
    using namespace sql;
    return stored_sender(std::string(rows.octets(row, m_local)), std::string(rows.octets(row, m_domain)),
                         rows.i4(row, m_flags), rows.maybe(row, m_envid), rows.maybe(row, m_auth));
}

Recipient recipient_of(const PostgresRows& rows, int row, int first) {
    using namespace sql;
    return stored_recipient(std::uint32_t(rows.i4(row, first + r_number)),
                            std::string(rows.octets(row, first + r_local)),
                            std::string(rows.octets(row, first + r_domain)), rows.i4(row, first + r_notify),
                            rows.maybe(row, first + r_orcpt));
}

}  // namespace

std::int64_t PostgresClock::theirs(QueueTime time) const { return moved(to_number(time), ahead); }
QueueTime PostgresClock::ours(std::int64_t time) const { return to_time(moved(time, -ahead)); }

StoreError store_error(const PostgresFailure& failure) {
    std::string what = "PostgreSQL: ";
    what += failure.what();
    if (!failure.state().empty()) what += " (" + failure.state() + ")";
    return failure.no_room() ? no_room(what) : no_store(what);
}

// ---- PostgresPut ----

PostgresPut::PostgresPut(const QueuedMail& mail, PostgresClock clock)
    : mail_(mail), due_(clock.theirs(mail.due)), large_(mail.text.size() > postgres_chunk) {
    check_queued(mail);
    if (large_) return;
    if (mail.text.spooled()) room_ = octets_of(mail.text);
    text_ = mail.text.spooled() ? std::string_view(room_) : mail.text.view();
}

void PostgresPut::send_recipients(PostgresConnection& to) const {
    if (mail_.to.size() == 1) {
        const auto& one = mail_.to.front();
        const auto domain = queue_domain(one);
        const auto orcpt = orcpt_text(one);
        PostgresValues values;
        values.i4(0).octets(domain).octets(one.local).octets(one.domain).i4(notify_flags(one.notify));
        to.add(sql::put_recipient, values.octets(orcpt).i8(due_).flag(mail_.held));
        return;
    }
    std::vector<std::int32_t> numbers, notify;
    std::vector<std::string> domains;
    std::vector<std::optional<std::string>> orcpts;
    std::vector<std::optional<std::string_view>> locals, as_given, orcpt_views;
    for (const auto& each : mail_.to) {
        numbers.push_back(std::int32_t(numbers.size()));
        domains.push_back(queue_domain(each));
        locals.emplace_back(each.local);
        as_given.emplace_back(each.domain);
        notify.push_back(notify_flags(each.notify));
        orcpts.push_back(orcpt_text(each));
    }
    for (const auto& each : orcpts) orcpt_views.push_back(each ? std::optional<std::string_view>(*each) : std::nullopt);
    PostgresValues values;
    values.i4s(numbers).octets_list(views(domains)).octets_list(locals).octets_list(as_given).i4s(notify);
    to.add(sql::put_recipients, values.octets_list(orcpt_views).i8(due_).flag(mail_.held));
}

void PostgresPut::send(PostgresConnection& to) const {
    PostgresValues values;
    values.octets(mail_.id).octets(mail_.from.local).octets(mail_.from.domain).i4(sender_flags(mail_.from));
    values.octets(mail_.from.envid).octets(mail_.from.auth).octets(mail_.head);
    to.add(sql::put_message, values.i8(std::int64_t(mail_.text.size())).i8(to_number(mail_.arrived)).flag(mail_.held));
    send_recipients(to);
    if (!large_) {
        if (!text_.empty()) to.add(sql::put_chunk, PostgresValues().i4(0).octets(text_));
        return;
    }
    std::string piece(postgres_chunk, '\0');
    std::uint64_t done = 0;
    for (std::int32_t number = 0; done < mail_.text.size(); ++number) {
        std::size_t n = 0;
        try {
            n = mail_.text.read(done, piece.data(), piece.size());
        } catch (const std::system_error& e) {
            throw store_error(e.what(), e.code().value());
        }
        if (n == 0) throw no_store("a message is shorter than it was");
        to.add(sql::put_chunk, PostgresValues().i4(number).octets(std::string_view(piece).substr(0, n)));
        done += n;
    }
}

// ---- PostgresVerdicts ----

PostgresVerdicts::PostgresVerdicts(const QueueTask& task, std::span<const QueueVerdict> verdicts, std::int64_t owner,
                                   PostgresClock clock)
    : task_(task), owner_(owner) {
    std::vector<std::uint32_t> numbers;
    for (const auto& each : verdicts) {
        numbers.push_back(each.number);
        if (each.done) {
            done_.push_back(std::int32_t(each.number));
            continue;
        }
        later_.push_back(std::int32_t(each.number));
        attempts_.push_back(each.attempt);
        dues_.push_back(clock.theirs(each.due));
        warned_.push_back(each.warned);
        replies_.push_back(encode_reply(each.reply));
        hosts_.emplace_back(kept_host(each.host));
    }
    std::ranges::sort(numbers);
    if (std::ranges::adjacent_find(numbers) != numbers.end())
        throw std::invalid_argument("two verdicts about one recipient");
}

void PostgresVerdicts::send(PostgresConnection& to) const {
    const auto fence = [&](PostgresValues& values, const std::vector<std::int32_t>& numbers) -> PostgresValues& {
        return values.i8(task_.message)
            .i4s(numbers)
            .i8(owner_)
            .i8(std::int64_t(task_.claim))
            .i4(std::int32_t(numbers.size()));
    };
    if (!done_.empty()) {
        PostgresValues values;
        to.add(sql::lock_message, PostgresValues().i8(task_.message));
        to.add(sql::record_done, fence(values, done_));
    }
    if (!later_.empty()) {
        PostgresValues values;
        fence(values, later_).i8s(dues_).i4s(attempts_).flags(warned_);
        to.add(sql::record_later, values.octets_list(views(replies_)).octets_list(hosts_));
    }
    if (!done_.empty()) to.add(sql::remove_empty, PostgresValues().i8(task_.message));
}

// ---- back ----

std::vector<QueueTask> tasks_of(const PostgresRows& rows, std::uint64_t turn) {
    using namespace sql;
    constexpr int first = message_columns, head = first + recipient_columns, warned = head + 1;
    std::vector<QueueTask> tasks;
    std::unordered_map<std::int64_t, std::size_t> where;
    for (int row = 0; row < rows.size(); ++row) {
        const auto number = rows.i8(row, m_number);
        const auto [at, fresh] = where.emplace(number, tasks.size());
        if (fresh) {
            tasks.push_back({number,
                             std::string(rows.octets(row, m_id)),
                             sender_of(rows, row),
                             std::string(rows.octets(row, head)),
                             std::uint64_t(rows.i8(row, m_size)),
                             to_time(rows.i8(row, m_arrived)),
                             {},
                             turn});
        }
        tasks[at->second].to.push_back({std::uint32_t(rows.i4(row, first + r_number)), recipient_of(rows, row, first),
                                        std::uint32_t(rows.i4(row, first + r_attempts)), rows.flag(row, warned)});
    }
    for (auto& task : tasks) std::ranges::sort(task.to, {}, &QueueTask::To::number);
    return tasks;
}

std::vector<QueueItem> items_of(const PostgresRows& rows, PostgresClock clock) {
    using namespace sql;
    constexpr int first = message_columns, last = first + recipient_columns, host = last + 1, when = host + 1,
                  in_flight = when + 1, held = in_flight + 1;
    std::vector<QueueItem> found;
    for (int row = 0; row < rows.size(); ++row) {
        const auto number = rows.i8(row, m_number);
        if (found.empty() || found.back().message != number) {
            found.push_back({number,
                             std::string(rows.octets(row, m_id)),
                             sender_of(rows, row),
                             std::uint64_t(rows.i8(row, m_size)),
                             to_time(rows.i8(row, m_arrived)),
                             rows.flag(row, held),
                             {}});
        }
        found.back().to.push_back({recipient_of(rows, row, first), std::uint32_t(rows.i4(row, first + r_attempts)),
                                   decode_reply(rows.octets(row, last)), std::string(rows.octets(row, host)),
                                   clock.ours(rows.i8(row, when)), rows.flag(row, in_flight)});
    }
    return found;
}

Message message_of(std::uint64_t size, const std::string& folder, const std::function<std::string_view()>& more) {
    auto content = std::make_shared<Content>(nullptr);
    std::uint64_t done = 0;
    try {
        const bool small = size <= postgres_chunk;
        if (small) content->own.reserve(std::size_t(size));
        else content->file = unnamed_file(folder.empty() ? std::filesystem::temp_directory_path().string() : folder);
        for (auto piece = more(); !piece.empty() && done <= size; piece = more()) {
            done += piece.size();
            if (small) content->own += piece;
            else write_all(content->file.get(), piece.data(), piece.size());
        }
    } catch (const std::system_error& e) {
        throw store_error(e.what(), e.code().value());
    }
    if (done != size) throw no_store("the text is not there, or not all of it");
    content->size = size;
    return Message(std::move(content));
}

}  // namespace Net::SMTP
