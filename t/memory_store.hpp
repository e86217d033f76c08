// memory_store -- a queue's store that is gone with the process: simple and right, to test others with and against.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "../Relay/Store.hpp"

namespace test {

// What several MemoryStores share, as processes share a database.
struct MemoryPlace {
    using QueueTime = Net::SMTP::QueueTime;
    struct To {
        Net::SMTP::Recipient recipient;
        QueueTime due{};
        std::uint32_t attempts = 0;
        bool warned = false, gone = false;
        Net::SMTP::Reply last{0, "", ""};
        std::string host{};
        std::uint64_t owner = 0;  // which store has given it out
    };
    struct Mail {
        std::string id, head;
        Net::SMTP::Sender from;
        Net::SMTP::Message text;
        QueueTime arrived{};
        bool held = false;
        std::vector<To> to;
    };
    using Waiting = std::tuple<std::string, QueueTime, std::int64_t, std::uint32_t>;  // domain, due, message, number

    std::mutex mutex;
    std::map<std::int64_t, Mail> mails;
    std::map<std::string, std::int64_t> numbers;  // by id
    std::set<Waiting> waiting;                    // what may be given out, now or later
    std::map<std::string, std::string> settings;
    std::int64_t last = 0;
    std::uint64_t stores = 0, leader = 0, changes = 0;
    bool one_leader = true;
};

// One process's store, so to speak. Without a place it has one of its own.
class MemoryStore : public Net::SMTP::Store {
public:
    using Cancelled = Net::SMTP::Cancelled;
    using Message = Net::SMTP::Message;
    using QueueDomain = Net::SMTP::QueueDomain;
    using QueuedMail = Net::SMTP::QueuedMail;
    using QueueItem = Net::SMTP::QueueItem;
    using QueueStats = Net::SMTP::QueueStats;
    using QueueTask = Net::SMTP::QueueTask;
    using QueueTime = Net::SMTP::QueueTime;
    using QueueVerdict = Net::SMTP::QueueVerdict;

    explicit MemoryStore(std::shared_ptr<MemoryPlace> place = std::make_shared<MemoryPlace>())
        : place_(std::move(place)) {
        const std::lock_guard lock(place_->mutex);
        self_ = ++place_->stores;
    }
    ~MemoryStore() override {
        const std::lock_guard lock(place_->mutex);
        if (place_->leader == self_) place_->leader = 0;
        for (auto& [number, mail] : place_->mails)
            for (auto& to : mail.to)
                if (to.owner == self_) free(number, mail, to);
    }

    // Called first by every other member, with its name; what it throws, such as a StoreError, comes out and nothing
    // has changed. Set it before threads use the store.
    std::function<void(std::string_view call)> trouble{};

    void put(const QueuedMail& mail) override {
        const auto lock = call("put");
        check(mail);
        add(mail);
        changed_something();
    }

    bool lead() override {
        const auto lock = call("lead");
        if (!place_->one_leader) return true;
        if (place_->leader == 0) place_->leader = self_;
        return place_->leader == self_;
    }

    std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) override {
        const auto lock = call("domains");
        std::vector<QueueDomain> out;
        auto at = after ? behind(*after) : place_->waiting.begin();
        for (; at != place_->waiting.end() && out.size() < limit; at = behind(out.back().name))
            out.push_back({std::get<0>(*at), std::get<1>(*at)});
        return out;
    }

    std::optional<QueueTime> due(const std::string& domain) override {
        const auto lock = call("due");
        const auto first = place_->waiting.lower_bound({domain, QueueTime::min(), INT64_MIN, 0});
        return first == behind(domain) ? std::nullopt : std::optional(std::get<1>(*first));
    }

    bool changed() override {
        const auto lock = call("changed");
        const auto before = seen_;
        seen_ = place_->changes - own_;
        return seen_ != before;
    }

    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        const auto lock = call("claim");
        std::vector<QueueTask> out;
        const auto first = place_->waiting.lower_bound({domain, QueueTime::min(), INT64_MIN, 0});
        const auto end = behind(domain);
        // What is too far away was due longest ago, for all we know.
        auto far = place_->waiting.upper_bound({domain, now + Net::SMTP::longest_wait, INT64_MAX, UINT32_MAX});
        std::vector<MemoryPlace::Waiting> due;
        for (; far != end && due.size() < limit; ++far) due.push_back(*far);
        for (auto at = first; at != end && std::get<1>(*at) <= now && due.size() < limit; ++at) due.push_back(*at);
        if (!due.empty()) {
            const auto last = std::get<2>(due.back());
            auto have = std::size_t(std::ranges::count(due, last, [](const auto& each) { return std::get<2>(each); }));
            for (auto at = first; at != end && have < together; ++at) {
                const auto when = std::get<1>(*at);
                if (std::get<2>(*at) != last || (when > now && when <= now + Net::SMTP::longest_wait)) continue;
                if (std::ranges::find(due, *at) != due.end()) continue;
                due.push_back(*at);
                ++have;
            }
        }
        for (const auto& [name, when, message, number] : due) give(message, number, out);
        return out;
    }

    Message text(const QueueTask& task) override {
        const auto lock = call("text");
        return Message(std::string(find(task.message).text.view()));
    }

    bool record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                std::span<const QueuedMail> notices) override {
        const auto lock = call("record");
        for (const auto& verdict : verdicts)
            if (!mine(task.message, verdict.number)) return false;
        std::set<std::string> ids;
        for (const auto& notice : notices) {
            check(notice);
            if (!ids.insert(notice.id).second) throw std::invalid_argument("two notices have the id " + notice.id);
        }
        for (const auto& verdict : verdicts) settle(task.message, verdict);
        for (const auto& notice : notices) add(notice);
        changed_something();
        return true;
    }

    void give_back(const QueueTask& task) override {
        const auto lock = call("give_back");
        for (const auto& to : task.to)
            if (mine(task.message, to.number)) free(task.message, find(task.message), to_of(task.message, to.number));
        changed_something();
    }

    Cancelled cancel(const std::string& id) override {
        const auto lock = call("cancel");
        const auto found = place_->numbers.find(id);
        if (found == place_->numbers.end()) return Cancelled::not_found;
        const auto number = found->second;
        if (std::ranges::any_of(find(number).to, &MemoryPlace::To::owner)) return Cancelled::in_flight;
        remove(number);
        changed_something();
        return Cancelled::found;
    }

    bool hold(const std::string& id) override {
        const auto lock = call("hold");
        return keep(id, true);
    }
    bool release(const std::string& id) override {
        const auto lock = call("release");
        return keep(id, false);
    }

    std::uint64_t flush(const std::string& id) override {
        const auto lock = call("flush");
        const auto found = place_->numbers.find(id);
        return found == place_->numbers.end()
                   ? 0
                   : flush_if([&](const auto& at) { return std::get<2>(at) == found->second; });
    }
    std::uint64_t flush_domain(const std::string& domain) override {
        const auto lock = call("flush_domain");
        return flush_if([&](const auto& at) { return std::get<0>(at) == domain; });
    }
    std::uint64_t flush_all() override {
        const auto lock = call("flush_all");
        return flush_if([](const auto&) { return true; });
    }

    std::vector<QueueItem> items(std::int64_t after, std::size_t limit) override {
        const auto lock = call("items");
        std::vector<QueueItem> out;
        for (auto at = place_->mails.upper_bound(after); at != place_->mails.end() && out.size() < limit; ++at)
            out.push_back(seen(at->first, at->second));
        return out;
    }
    std::optional<QueueItem> item(const std::string& id) override {
        const auto lock = call("item");
        const auto found = place_->numbers.find(id);
        if (found == place_->numbers.end()) return std::nullopt;
        return seen(found->second, find(found->second));
    }
    std::optional<Message> look(const std::string& id) override {
        const auto lock = call("look");
        const auto found = place_->numbers.find(id);
        if (found == place_->numbers.end()) return std::nullopt;
        const auto& mail = find(found->second);
        return Message(mail.head + std::string(mail.text.view()));
    }

    QueueStats stats() override {
        const auto lock = call("stats");
        QueueStats out;
        for (const auto& [number, mail] : place_->mails) {
            ++out.messages;
            out.held += mail.held;
            out.octets += mail.text.size();
            out.oldest = std::min(out.oldest.value_or(mail.arrived), mail.arrived);
            for (const auto& to : mail.to) {
                out.recipients += !to.gone;
                out.in_flight += to.owner != 0;
            }
        }
        return out;
    }

    std::optional<std::string> setting(const std::string& name) override {
        const auto lock = call("setting");
        const auto found = place_->settings.find(name);
        return found == place_->settings.end() ? std::nullopt : std::optional(found->second);
    }
    void set(const std::string& name, const std::string& value) override {
        const auto lock = call("set");
        place_->settings[name] = value;
        changed_something();
    }

    std::string name() const override { return "memory"; }

protected:
    std::unique_lock<std::mutex> call(std::string_view name) const {
        if (trouble) trouble(name);
        return std::unique_lock(place_->mutex);
    }

    MemoryPlace::Mail& find(std::int64_t message) { return place_->mails.at(message); }
    MemoryPlace::To& to_of(std::int64_t message, std::uint32_t number) { return find(message).to.at(number); }
    bool mine(std::int64_t message, std::uint32_t number) {
        const auto found = place_->mails.find(message);
        return found != place_->mails.end() && number < found->second.to.size() &&
               found->second.to[number].owner == self_;
    }

    void check(const QueuedMail& mail) const {
        const auto printable = [](char c) { return c > ' ' && c < 127; };
        if (mail.id.empty() || mail.id.size() > 255 || !std::ranges::all_of(mail.id, printable))
            throw std::invalid_argument("an id of 1 to 255 printable characters without blanks is needed");
        if (place_->numbers.contains(mail.id))
            throw std::invalid_argument("there is a message " + mail.id + " already");
        if (mail.to.empty()) throw std::invalid_argument("a message needs a recipient");
        if (mail.text.sunk()) throw std::invalid_argument("the message went into a sink");
    }

    void add(const QueuedMail& mail) {
        const auto message = ++place_->last;
        place_->numbers[mail.id] = message;
        auto& kept = place_->mails[message];
        kept = {mail.id,   mail.head, only_kept(mail.from), Message(std::string(mail.text.view())), mail.arrived,
                mail.held, {}};
        for (const auto& to : mail.to) {
            kept.to.push_back({only_kept(to, kept.to.size()), mail.due});
            wait(message, kept, kept.to.back());
        }
    }

    static Net::SMTP::Sender only_kept(const Net::SMTP::Sender& from) {
        auto out = from;
        out.raw = "<" + from.str() + ">";
        out.size.reset();
        out.parameters.clear();
        return out;
    }
    static Net::SMTP::Recipient only_kept(const Net::SMTP::Recipient& to, std::size_t number) {
        auto out = to;
        out.raw = "<" + to.str() + ">";
        out.parameters.clear();
        out.id = number + 1;
        return out;
    }

    static MemoryPlace::Waiting waiting(std::int64_t message, const MemoryPlace::To& to) {
        return {Net::SMTP::lower_case(to.recipient.domain), to.due, message, std::uint32_t(to.recipient.id - 1)};
    }
    void wait(std::int64_t message, const MemoryPlace::Mail& mail, const MemoryPlace::To& to) {
        if (!mail.held && !to.gone && to.owner == 0) place_->waiting.insert(waiting(message, to));
    }
    void free(std::int64_t message, const MemoryPlace::Mail& mail, MemoryPlace::To& to) {
        to.owner = 0;
        wait(message, mail, to);
    }
    std::set<MemoryPlace::Waiting>::iterator behind(const std::string& domain) const {
        return place_->waiting.upper_bound({domain, QueueTime::max(), INT64_MAX, UINT32_MAX});
    }

    void give(std::int64_t message, std::uint32_t number, std::vector<QueueTask>& out) {
        const auto& mail = find(message);
        auto& to = to_of(message, number);
        place_->waiting.erase(waiting(message, to));
        to.owner = self_;
        auto task = std::ranges::find(out, message, &QueueTask::message);
        if (task == out.end())
            task = out.insert(out.end(), {message, mail.id, mail.from, mail.head, mail.text.size(), mail.arrived, {}});
        task->to.push_back({number, to.recipient, to.attempts, to.warned});
    }

    void settle(std::int64_t message, const QueueVerdict& verdict) {
        auto& mail = find(message);
        auto& to = to_of(message, verdict.number);
        to.attempts += verdict.attempt;
        to.warned = verdict.warned;
        to.last = {verdict.reply.code, verdict.reply.status, verdict.reply.text.substr(0, 1024)};
        to.host = verdict.host;
        to.gone = verdict.done;
        to.due = verdict.due;
        free(message, mail, to);
        if (std::ranges::all_of(mail.to, &MemoryPlace::To::gone)) remove(message);
    }

    void remove(std::int64_t message) {
        const auto& mail = find(message);
        for (const auto& to : mail.to) place_->waiting.erase(waiting(message, to));
        place_->numbers.erase(mail.id);
        place_->mails.erase(message);
    }

    bool keep(const std::string& id, bool held) {
        const auto found = place_->numbers.find(id);
        if (found == place_->numbers.end()) return false;
        auto& mail = find(found->second);
        for (const auto& to : mail.to) place_->waiting.erase(waiting(found->second, to));
        mail.held = held;
        for (const auto& to : mail.to) wait(found->second, mail, to);
        changed_something();
        return true;
    }

    std::uint64_t flush_if(const std::function<bool(const MemoryPlace::Waiting&)>& wanted) {
        std::vector<MemoryPlace::Waiting> found;
        std::ranges::copy_if(place_->waiting, std::back_inserter(found), wanted);
        const auto now = Net::SMTP::queue_now();
        for (const auto& at : found) {
            auto& to = to_of(std::get<2>(at), std::get<3>(at));
            place_->waiting.erase(at);
            to.due = std::min(to.due, now);
            place_->waiting.insert(waiting(std::get<2>(at), to));
        }
        changed_something();
        return found.size();
    }

    static QueueItem seen(std::int64_t message, const MemoryPlace::Mail& mail) {
        QueueItem out{message, mail.id, mail.from, mail.text.size(), mail.arrived, mail.held, {}};
        for (const auto& to : mail.to) {
            if (to.gone) continue;
            out.to.push_back({to.recipient, to.attempts, to.last, to.host, mail.held ? Net::SMTP::never_due : to.due,
                              to.owner != 0});
        }
        return out;
    }

    void changed_something() {
        ++own_;
        ++place_->changes;
    }

    std::shared_ptr<MemoryPlace> place_;
    std::uint64_t self_ = 0, own_ = 0, seen_ = 0;
};

}  // namespace test
