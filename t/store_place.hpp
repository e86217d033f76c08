// store_place -- where a store under test keeps its mail, and what the promises of stores are told with.
#pragma once

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../Relay/Store.hpp"
#include "../Server/Content.hpp"
#include "../Server/Files.hpp"

namespace test::stores {

using namespace Net::SMTP;
using namespace std::chrono_literals;

// A place that is empty at first and gone with this object.
class StorePlace {
public:
    virtual ~StorePlace() = default;
    // Another store on it, as another process would have. All are destroyed before the place.
    virtual std::unique_ptr<Store> open() = 0;
    // Whether one store of it at a time may give out mail.
    virtual bool one_leader() const { return true; }
};

// A promise that was not kept.
struct Broken : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void must(bool kept, const char* what, const char* file, int line) {
    if (!kept) throw Broken(std::string(file) + ":" + std::to_string(line) + ": " + what);
}
#define MUST(...) test::stores::must(bool(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

// One sentence about every store, and what shows it: throws when it is not so.
struct Promise {
    const char* sentence;
    void (*kept)(StorePlace& place);
};

// ---- what it is told with ----

// After so long what has not come true never will; no promise depends on how soon.
inline std::chrono::milliseconds long_enough = 60s;
inline bool in_the_end(const std::function<bool()>& true_now) {
    for (const auto end = std::chrono::steady_clock::now() + long_enough; std::chrono::steady_clock::now() < end;
         std::this_thread::sleep_for(2ms))
        if (true_now()) return true;
    return false;
}

inline std::unique_ptr<Store> leading(StorePlace& place) {
    auto store = place.open();
    MUST(in_the_end([&] { return store->lead(); }));
    return store;
}

inline bool refused(const std::function<void()>& action) {
    try {
        action();
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

// Where others have much to write, a store may have waited long enough and say so; nothing is kept then.
inline void put_in_the_end(Store& store, const QueuedMail& mail) {
    MUST(in_the_end([&] {
        try {
            store.put(mail);
        } catch (const StoreError&) {
            return false;
        }
        return true;
    }));
}

// Does it in so many threads at once; what one of them throws comes out.
inline void at_once(int threads, const std::function<void(int)>& work) {
    std::vector<std::future<void>> all;
    for (int i = 0; i < threads; ++i) all.push_back(std::async(std::launch::async, work, i));
    for (auto& each : all) each.wait();
    for (auto& each : all) each.get();
}

inline std::vector<Recipient> recipients(const std::vector<std::string>& mailboxes) {
    return {mailboxes.begin(), mailboxes.end()};
}
inline std::vector<Recipient> recipients(int count, const std::string& domain) {
    std::vector<Recipient> out;
    for (int i = 0; i < count; ++i) out.emplace_back("r" + std::to_string(i) + "@" + domain);
    return out;
}

// Mail that has been due for a second.
inline QueuedMail letter(const std::string& id, const std::vector<std::string>& to = {"bert@example.org"}) {
    QueuedMail out;
    out.id = id;
    out.from = Sender("anna@example.net");
    out.to = recipients(to);
    out.head = "Received: by us\r\n";
    out.text = Message("Subject: " + id + "\r\n\r\nHello.\r\n");
    out.arrived = out.due = queue_now() - 1s;
    return out;
}
inline QueuedMail letter(const std::string& id, QueueTime due, const std::string& to = "bert@example.org") {
    auto out = letter(id, {to});
    out.due = due;
    return out;
}

inline Message in_file(const std::string& text, const std::string& folder) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file(folder);
    write_all(content->file.get(), text.data(), text.size());
    content->size = text.size();
    return Message(content);
}
inline Message in_sink() {
    auto content = std::make_shared<Content>(nullptr);
    content->sunk = true;
    content->size = 10;
    return Message(content);
}

// Octets of all kinds, the first of them NUL; no piece that is a power of two comes again.
inline std::string binary(std::size_t size) {
    std::mt19937 random{unsigned(size)};
    std::string out(std::min<std::size_t>(size, 65'521), '\0');
    for (std::size_t i = 1; i < out.size(); ++i) out[i] = char(random());
    while (out.size() < size) out.append(out, 0, std::min<std::size_t>(size - out.size(), 65'521));
    return out;
}

inline bool same(const Address& a, const Address& b) { return a.local == b.local && a.domain == b.domain; }
// In what is kept of them.
inline bool same(const Sender& a, const Sender& b) {
    return same(static_cast<const Address&>(a), b) && a.body == b.body && a.smtputf8 == b.smtputf8 && a.ret == b.ret &&
           a.envid == b.envid && a.auth == b.auth;
}
inline bool same(const Recipient& a, const Recipient& b) {
    if (!same(static_cast<const Address&>(a), b) || a.orcpt.has_value() != b.orcpt.has_value()) return false;
    if (a.orcpt && (a.orcpt->type != b.orcpt->type || a.orcpt->address != b.orcpt->address)) return false;
    return a.notify.never == b.notify.never && a.notify.success == b.notify.success &&
           a.notify.failure == b.notify.failure && a.notify.delay == b.notify.delay;
}

inline std::vector<QueueTask> claim(Store& store, const std::string& domain = "example.org",
                                    std::size_t limit = 10'000) {
    return store.claim(domain, queue_now(), limit);
}
// The one task that there is.
inline QueueTask only(const std::vector<QueueTask>& tasks) {
    MUST(tasks.size() == 1);
    return tasks.front();
}
inline std::vector<std::string> ids(const std::vector<QueueTask>& tasks) {
    std::vector<std::string> out;
    for (const auto& task : tasks) out.push_back(task.id);
    return out;
}
inline std::vector<std::string> ids(const std::vector<QueueItem>& items) {
    std::vector<std::string> out;
    for (const auto& item : items) out.push_back(item.id);
    return out;
}
inline std::vector<std::string> names(const std::vector<QueueDomain>& domains) {
    std::vector<std::string> out;
    for (const auto& domain : domains) out.push_back(domain.name);
    return out;
}
inline std::vector<std::uint32_t> numbers(const QueueTask& task) {
    std::vector<std::uint32_t> out;
    for (const auto& to : task.to) out.push_back(to.number);
    std::ranges::sort(out);
    return out;
}
inline std::size_t recipients_in(const std::vector<QueueTask>& tasks) {
    std::size_t out = 0;
    for (const auto& task : tasks) out += task.to.size();
    return out;
}

inline QueueVerdict done(std::uint32_t number) {
    QueueVerdict out;
    out.number = number;
    out.done = true;
    out.reply = {250, "2.0.0", "OK"};
    out.host = "mx.example.org";
    return out;
}
inline QueueVerdict later(std::uint32_t number, QueueTime due) {
    QueueVerdict out;
    out.number = number;
    out.due = due;
    out.reply = {451, "4.3.0", "Later"};
    out.host = "mx.example.org";
    return out;
}
inline bool record(Store& store, const QueueTask& task, const std::vector<QueueVerdict>& verdicts,
                   const std::vector<QueuedMail>& notices = {}) {
    return store.record(task, verdicts, notices);
}
inline bool finish(Store& store, const QueueTask& task) {
    std::vector<QueueVerdict> verdicts;
    for (const auto& to : task.to) verdicts.push_back(done(to.number));
    return record(store, task, verdicts);
}
inline bool defer(Store& store, const QueueTask& task, QueueTime due) {
    std::vector<QueueVerdict> verdicts;
    for (const auto& to : task.to) verdicts.push_back(later(to.number, due));
    return record(store, task, verdicts);
}

// It comes out of the store as these octets, whichever way it is looked at.
inline void comes_out(Store& store, const QueueTask& task, const std::string& head, const std::string& text) {
    MUST(task.head == head);
    MUST(task.size == text.size());
    MUST(!task.text || *task.text == text);
    const auto given = store.text(task);
    MUST(given.size() == text.size());
    MUST(given.view() == text);
    std::string tail(10, ' ');
    tail.resize(given.read(text.size() - text.size() / 3, tail.data(), tail.size()));
    MUST(tail == text.substr(text.size() - text.size() / 3, 10));
    const auto look = store.look(task.id);
    MUST(look.has_value());
    MUST(look->view() == head + text);
    MUST(store.item(task.id)->size == text.size());
}

}  // namespace test::stores
