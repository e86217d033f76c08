#include "QueueDelivery.hpp"

#include <algorithm>
#include <new>
#include <optional>
#include <random>
#include <system_error>
#include <thread>

#include "../Server/Content.hpp"
#include "../Server/Shared.hpp"
#include "Plan.hpp"

namespace Net::SMTP {

namespace {

using namespace std::chrono_literals;

double random_part() {
    thread_local std::minstd_rand numbers{std::random_device{}()};
    return std::uniform_real_distribution<double>(0, 1)(numbers);
}

// Whether nobody there could be talked to: no address, no connection, no answer (RFC 3463: X.4.Z).
bool unreachable(const Relay::Result& result) {
    return result.reply.temporary() && result.reply.status.starts_with("4.4.");
}

// For one transaction, that is: the others may come in the next (RFC 5321 4.5.3.1.10).
bool too_many(const Reply& reply) { return reply.code == 452 && (reply.status == "4.5.3" || reply.status.empty()); }

QueueTry said_of_place(const std::vector<Relay::Result>& results) {
    if (std::ranges::any_of(results, &Relay::Result::delivered)) return QueueTry::sent;
    return std::ranges::all_of(results, unreachable) ? QueueTry::failed : QueueTry::answered;
}

}  // namespace

// What a try comes to.
struct QueueDelivery::Account {
    enum class Fate { sent, deferred, failed, expired };
    std::vector<QueueVerdict> verdicts;    // one for each recipient of the task, in their order
    std::vector<Fate> fates;               // the same
    std::vector<DeliveryStatus> statuses;  // what the sender may want to hear
    std::vector<QueuedMail> notices;       // one at most
    std::vector<Recipient> about;          // who the notice, or the lack of one, is about
    QueueTime now;
};

QueueDelivery::QueueDelivery(Settings settings, std::shared_ptr<Shared> drain)
    : settings_(std::move(settings)), drain_(std::move(drain)) {}

bool QueueDelivery::drained() const noexcept try {
    return Shared::wait(drain_, Deadline::max()).over();
} catch (const std::bad_alloc&) {
    return false;
}

// What was delivered must not be delivered again: nobody else gets the task before it is recorded, so we don't give up
// before the drain is over.
template <class F>
auto QueueDelivery::until_done(const QueueJob& job, F f) {
    for (auto pause = 10ms;; pause = std::min<std::chrono::milliseconds>(2 * pause, 1s)) {
        try {
            return f();
        } catch (const std::exception& e) {
            trouble(job, e.what());
            if (drained()) throw;
        }
        std::this_thread::sleep_for(pause);
    }
}

QueueTry QueueDelivery::run(const QueueJob& job) {
    Message text;
    const auto results = relay(job, text);
    const auto place = said_of_place(results);
    try {
        const auto account = until_done(job, [&] {
            auto all = judge(job, results);
            try {
                notify(job, text, all);
            } catch (const std::bad_alloc&) {
                throw;
            } catch (const std::exception& e) {  // a notice that can't be made must not keep what was delivered
                trouble(job, e.what());
            }
            return all;
        });
        if (until_done(job, [&] { return settings_.store.record(job.task, account.verdicts, account.notices); }))
            tell(job, account);
    } catch (const std::exception&) {
        settings_.look();
    }
    return place;
}

void QueueDelivery::trouble(const QueueJob& job, const char* what) const noexcept try {
    drain_->trouble(nullptr, job.task.id + ": " + what);
} catch (const std::bad_alloc&) {
}

// What goes wrong on our side is told the program, and tried again like anything else.
std::vector<Relay::Result> QueueDelivery::relay(const QueueJob& job, Message& text) {
    std::vector<Recipient> to;
    std::vector<Relay::Result> none;  // made before anything is delivered, since nothing may be thrown afterwards
    for (const auto& t : job.task.to) {
        to.push_back(t.recipient);
        none.push_back({t.recipient, {451, "4.3.0", "Local error in processing"}, ""});
    }
    try {
        text = job.task.text ? Message(*job.task.text) : settings_.store.text(job.task);
        if (const auto content = text.content()) content->shared = drain_;
        auto how = *job.way.how;
        how.head = job.task.head;
        const Relay tried(job.task.from, to, text, how);
        return until_done(job, [&] { return tried.results(); });
    } catch (const std::exception& e) {
        trouble(job, e.what());
    }
    return none;
}

QueueDelivery::Account QueueDelivery::judge(const QueueJob& job, const std::vector<Relay::Result>& results) const {
    using Fate = Account::Fate;
    const auto& schedule = settings_.schedule;
    const auto& task = job.task;
    Account out;
    out.now = queue_now();
    const bool some = std::ranges::any_of(results, [](const Relay::Result& r) { return r.reply.positive(); });
    for (std::size_t i = 0; i < task.to.size(); ++i) {
        const auto& to = task.to[i];
        const auto& result = results[i];
        const auto attempts = to.attempts + 1;
        const auto reply = passed_on(result.reply);
        QueueVerdict verdict{to.number, true, to.warned, {}, reply, result.host, true};
        DeliveryStatus status{to.recipient, DeliveryAction::failed, reply, result.host, out.now, std::nullopt};
        auto fate = Fate::failed;
        if (reply.positive()) {
            fate = Fate::sent;
            status.action = job.way.last ? DeliveryAction::delivered : DeliveryAction::relayed;
            if (!result.notifies) out.statuses.push_back(status);
        } else if (some && too_many(reply)) {  // each time there are fewer
            fate = Fate::deferred;
            verdict.done = verdict.attempt = false;
            verdict.due = out.now;
        } else if (reply.permanent() || schedule.expired(task.arrived, out.now, attempts)) {
            fate = reply.permanent() ? Fate::failed : Fate::expired;
            out.statuses.push_back(status);
        } else {
            fate = Fate::deferred;
            verdict.done = false;
            verdict.due = out.now + schedule.after(attempts, random_part());
            if (schedule.warn > 0s && !to.warned && out.now - task.arrived >= schedule.warn) {
                verdict.warned = true;
                status.action = DeliveryAction::delayed;
                status.retry_until = task.arrived + schedule.life;
                out.statuses.push_back(status);
            }
        }
        out.verdicts.push_back(std::move(verdict));
        out.fates.push_back(fate);
    }
    return out;
}

void QueueDelivery::notify(const QueueJob& job, const Message& text, Account& account) {
    const auto& from = job.task.from;
    std::erase_if(account.statuses, [&](const DeliveryStatus& s) {
        const bool wanted = settings_.notices && wants_notice(from, s.recipient, s.action);
        if (wanted || s.action == DeliveryAction::failed) account.about.push_back(s.recipient);
        return !wanted;
    });
    if (account.statuses.empty()) return;
    try {
        auto notice = delivery_notice(settings_.us, job.task, text, account.statuses, account.now);
        if (notice) account.notices.push_back(std::move(*notice));
    } catch (const std::system_error&) {  // the text can't be read: what became of it is told all the same
        auto notice = delivery_notice(settings_.us, job.task, Message(), account.statuses, account.now);
        if (notice) account.notices.push_back(std::move(*notice));
    }
}

void QueueDelivery::tell(const QueueJob& job, const Account& account) {
    using Fate = Account::Fate;
    const auto& task = job.task;
    auto& queue = settings_.queue;
    auto& voice = settings_.voice;
    for (const auto& notice : account.notices)
        for (const auto& to : notice.to) settings_.waiting(lower_case(to.domain), notice.due);
    std::optional<QueueTime> again;
    for (std::size_t i = 0; i < task.to.size(); ++i) {
        const auto& to = task.to[i];
        const auto& v = account.verdicts[i];
        const auto attempt = to.attempts + 1;
        switch (account.fates[i]) {
            case Fate::sent: {
                Event::Sent event(queue, task.id, task.from, to.recipient, v.reply, v.host, attempt);
                voice.tell(event);
                break;
            }
            case Fate::deferred: {
                again = std::min(again.value_or(v.due), v.due);
                Event::Deferred event(queue, task.id, task.from, to.recipient, v.reply, v.host, attempt, v.due);
                voice.tell(event);
                break;
            }
            case Fate::failed:
            case Fate::expired: {
                const bool expired = account.fates[i] == Fate::expired;
                Event::Failed event(queue, task.id, task.from, to.recipient, v.reply, v.host, attempt, expired);
                voice.tell(event);
                break;
            }
        }
    }
    if (again) settings_.waiting(lower_case(task.to.front().recipient.domain), *again);
    if (account.about.empty()) return;
    const auto notice = account.notices.empty() ? std::string() : account.notices.front().id;
    Event::Bounced event(queue, task.id, task.from, notice, account.about);
    voice.tell(event);
}

}  // namespace Net::SMTP
