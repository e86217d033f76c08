#include "SqliteStore.hpp"

#include <unistd.h>

#include <limits>
#include <stdexcept>
#include <system_error>

#include "SqliteMail.hpp"
#include "SqliteSchema.hpp"
#include "SqliteState.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

std::string plain(std::string folder) {
    while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
    if (folder.empty()) throw std::invalid_argument("SqliteStore: the folder has no name");
    return folder;
}

// A text made ready for a transaction: in memory, or in a file of ours, which is removed again unless keep() is said.
class ReadyText {
public:
    ReadyText(SqliteState& state, const Message& text) : state_(state) {
        if (text.size() > state.options.file_above) stored_.file = keep_file(text);
        else if (text.spooled()) stored_.octets = copy_ = octets_of(text);
        else stored_.octets = text.view();
    }
    ~ReadyText() {
        if (!stored_.file.empty()) state_.bodies.remove(stored_.file);
    }
    ReadyText(const ReadyText&) = delete;
    ReadyText& operator=(const ReadyText&) = delete;
    const StoredText& stored() const { return stored_; }
    void keep() { stored_.file.clear(); }
    // Whether it was committed is not known.
    void doubt() noexcept {
        try {
            if (!stored_.file.empty()) state_.bodies.doubt(stored_.file);
        } catch (const std::bad_alloc&) {  // it will be swept once we are gone
        }
        keep();
    }

private:
    std::string keep_file(const Message& text) {
        try {
            state_.make_folders();
            return state_.bodies.keep(text);
        } catch (const std::system_error& e) {
            throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
        }
    }
    SqliteState& state_;
    std::string copy_;
    StoredText stored_;
};

// The texts of some mails; after an error that says no more than "not now" their files are looked at again by sweep().
class ReadyTexts {
public:
    ReadyTexts(SqliteState& state, std::span<const QueuedMail> mails) {
        for (const auto& mail : mails) {
            check(mail);
            texts_.push_back(std::make_unique<ReadyText>(state, mail.text));
            stored_.push_back(texts_.back()->stored());
        }
    }
    std::span<const StoredText> stored() const { return stored_; }
    // As SqliteState::write(); f says whether they are named now.
    template <class F>
    void write(SqliteState& state, F f) {
        bool used = false;
        try {
            state.write([&](SqliteWrite& write) { used = f(write); });
        } catch (const StoreError& e) {
            if (e.reply().code != 452) doubt();
            throw;
        } catch (const std::bad_alloc&) {
            doubt();
            throw;
        }
        if (used)
            for (auto& text : texts_) text->keep();
    }

private:
    void doubt() noexcept {
        for (auto& text : texts_) text->doubt();
    }
    static void check(const QueuedMail& mail) {
        check_queued(mail);
        if (mail.to.size() > std::size_t(most_recipients)) throw std::invalid_argument("too many recipients");
    }
    std::vector<std::unique_ptr<ReadyText>> texts_;
    std::vector<StoredText> stored_;
};

Message message_of(SqliteState& state, FoundText found) {
    if (!found.file) return Message(std::move(found.octets));
    try {
        return state.bodies.open(*found.file, found.size);
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
}

void remove_files(SqliteState& state, const std::vector<std::string>& gone) {
    for (const auto& file : gone) state.bodies.remove(file);
}

}  // namespace

SqliteStore::SqliteStore(std::string folder) : SqliteStore(std::move(folder), Options()) {}
SqliteStore::SqliteStore(std::string folder, Options options)
    : folder_(plain(std::move(folder))), options_(std::move(options)) {}

SqliteStore::~SqliteStore() {
    auto* const state = state_.load();
    if (state && state->process == getpid()) const std::unique_ptr<SqliteState> ours(state);
}

// A forked child finds its parent's state, and leaves it alone: it makes one of its own.
SqliteState& SqliteStore::state() const {
    auto* found = state_.load(std::memory_order_acquire);
    while (!found || found->process != getpid()) {
        auto made = std::make_unique<SqliteState>(folder_, options_);
        if (state_.compare_exchange_strong(found, made.get())) return *made.release();
    }
    return *found;
}

void SqliteStore::apply(SMTP::Options& options) const {
    options.spool_dir = state().bodies.bodies();
    options.spool_above = options_.file_above;
    try {
        state().make_folders();
    } catch (const std::system_error&) {  // put() will say so
    }
}

void SqliteStore::put(const QueuedMail& mail) {
    auto& s = state();
    ReadyTexts texts(s, {&mail, 1});
    texts.write(s, [&](SqliteWrite& write) {
        if (!write.room) throw no_room("sqlite: no room on the disk but the reserve");
        insert_mail(write, mail, texts.stored()[0]);
        return true;
    });
}

// ---- whoever delivers ----

bool SqliteStore::lead() {
    auto& s = state();
    if (s.incarnation() != 0) return true;
    if (!s.lead()) return false;
    try {
        s.sweep();
    } catch (const StoreError&) {  // what is left takes room, no more
    }
    return true;
}

std::vector<QueueDomain> SqliteStore::domains(const std::optional<std::string>& after, std::size_t limit) {
    return state().read([&](SqliteConnection& db) {
        std::vector<QueueDomain> found;
        const auto now = queue_now();
        while (found.size() < limit) {
            auto next = next_domain(db, found.empty() ? after : found.back().name, now);
            if (!next) break;
            found.push_back(std::move(*next));
        }
        return found;
    });
}

std::optional<QueueTime> SqliteStore::due(const std::string& domain) {
    return state().read([&](SqliteConnection& db) { return first_due(db, domain, queue_now()); });
}

bool SqliteStore::changed() { return state().changed(); }

std::vector<QueueTask> SqliteStore::claim(const std::string& domain, QueueTime now, std::size_t limit,
                                          std::size_t together) {
    auto& s = state();
    if (s.incarnation() == 0) throw std::logic_error("SqliteStore::claim() without lead()");
    // After a commit that has failed the log may hold it all the same, and it may be read from there: nobody was given
    // that mail, so it is given back before anything else is claimed.
    const std::lock_guard one(s.claiming);
    if (!s.lost.empty()) {
        s.write([&](SqliteWrite& write) {
            for (const auto& task : s.lost) give_back_mail(write, s.incarnation(), task);
        });
        s.lost.clear();
    }
    std::vector<QueueTask> tasks;
    try {
        s.write([&](SqliteWrite& write) {
            tasks = claim_mail(write, s.incarnation(), domain, now, limit, together, s.ahead);
        });
    } catch (...) {
        s.lost = std::move(tasks);
        throw;
    }
    return tasks;
}

Message SqliteStore::text(const QueueTask& task) {
    auto& s = state();
    auto found = s.read([&](SqliteConnection& db) { return find_text(db, task.message); });
    if (!found) throw no_store("sqlite: the message " + task.id + " is gone");
    return message_of(s, std::move(*found));
}

bool SqliteStore::record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                         std::span<const QueuedMail> notices) {
    auto& s = state();
    ReadyTexts texts(s, notices);
    std::vector<std::string> gone;
    bool ours = false;
    texts.write(s, [&](SqliteWrite& write) {
        gone.clear();
        return ours = record_mail(write, s.incarnation(), task, verdicts, notices, texts.stored(), gone);
    });
    remove_files(s, gone);
    return ours;
}

void SqliteStore::give_back(const QueueTask& task) {
    auto& s = state();
    s.write([&](SqliteWrite& write) { give_back_mail(write, s.incarnation(), task); });
}

// ---- whoever looks after it ----

Cancelled SqliteStore::cancel(const std::string& id) {
    auto& s = state();
    std::vector<std::string> gone;
    auto outcome = Cancelled::not_found;
    s.write([&](SqliteWrite& write) {
        gone.clear();
        outcome = cancel_mail(write, s.live(write.totals), id, gone);
    });
    remove_files(s, gone);
    return outcome;
}

bool SqliteStore::hold(const std::string& id) {
    bool found = false;
    state().write([&](SqliteWrite& write) { found = hold_mail(write, id, true); });
    return found;
}

bool SqliteStore::release(const std::string& id) {
    bool found = false;
    state().write([&](SqliteWrite& write) { found = hold_mail(write, id, false); });
    return found;
}

std::uint64_t SqliteStore::flush(const std::string& id) {
    auto& s = state();
    std::uint64_t count = 0;
    s.write([&](SqliteWrite& write) { count = flush_mail(write, s.live(write.totals), id, queue_now()); });
    return count;
}

namespace {

std::uint64_t flush_in_steps(SqliteState& state, const std::optional<std::string>& domain) {
    const FlushSteps start{domain.value_or(""), domain.has_value(), queue_now()};
    auto count = state.read([&](SqliteConnection& db) { return count_due(db, domain, start.now); });
    for (auto at = start; !at.end;) {
        std::uint64_t some = 0;
        auto next = at;
        state.write([&](SqliteWrite& write) {
            next = at;
            some = flush_step(write, next);
        });
        at = next;
        count += some;
    }
    return count;
}

}  // namespace

std::uint64_t SqliteStore::flush_domain(const std::string& domain) { return flush_in_steps(state(), domain); }
std::uint64_t SqliteStore::flush_all() { return flush_in_steps(state(), std::nullopt); }

std::vector<QueueItem> SqliteStore::items(std::int64_t after, std::size_t limit) {
    auto& s = state();
    return s.read([&](SqliteConnection& db) { return read_items(db, s.live(read_totals(db)), after, limit); });
}

std::optional<QueueItem> SqliteStore::item(const std::string& id) {
    auto& s = state();
    return s.read([&](SqliteConnection& db) { return read_item(db, s.live(read_totals(db)), id); });
}

std::optional<Message> SqliteStore::look(const std::string& id) {
    auto& s = state();
    auto found = s.read([&](SqliteConnection& db) {
        const auto message = find_message(db, id);
        return message ? find_text(db, *message) : std::nullopt;
    });
    if (!found) return {};
    const HeaderEdit edit{.front = found->head, .received = OwnReceived::there};
    try {
        return message_of(s, std::move(*found)).edited(edit);
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
}

QueueStats SqliteStore::stats() {
    auto& s = state();
    return s.read([&](SqliteConnection& db) { return read_stats(db, s.live(read_totals(db))); });
}

std::optional<std::string> SqliteStore::setting(const std::string& name) {
    return state().read([&](SqliteConnection& db) -> std::optional<std::string> {
        auto row = db.query("SELECT value FROM setting WHERE name = ?", name);
        if (!row.step()) return {};
        return row.string(0);
    });
}

void SqliteStore::set(const std::string& name, const std::string& value) {
    state().write([&](SqliteWrite& write) {
        write.db.run("INSERT INTO setting VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value", name,
                     value);
    });
}

std::string SqliteStore::name() const { return "sqlite:" + folder_; }

std::uint64_t SqliteStore::sweep() { return state().sweep(); }

}  // namespace Net::SMTP
