#include "Queue.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <stdexcept>
#include <utility>

#include "../Server/Client.hpp"
#include "../Server/Content.hpp"
#include "../Server/Shared.hpp"
#include "Plan.hpp"
#include "QueueAgent.hpp"

namespace Net::SMTP {

namespace {

constexpr const char* pause_setting = "paused";

// Forwards what the deliveries of a run have to say.
std::shared_ptr<Shared> make_drain(const std::string& hostname, QueueVoice& voice) {
    SMTP::Options options;
    options.hostname = hostname;
    auto drain = std::make_shared<Shared>(options);
    drain->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    drain->pipeline.on<Event::Trouble>([&voice](Event::Trouble& e) { voice.tell(e); });
    return drain;
}

// Who is named again gets no other copy, as by any MTA: a single mail must not fill a disk.
std::vector<Recipient> each_once(const std::vector<Recipient>& all) {
    if (all.size() == 1) return all;
    std::vector<Recipient> out;
    std::set<std::pair<std::string, std::string>> seen;
    for (const auto& to : all) {
        auto local = to.unquoted();
        if (same_text(local, "postmaster")) local = lower_case(local);
        if (seen.emplace(lower_case(to.domain), std::move(local)).second) out.push_back(to);
    }
    return out;
}

Queue::Options completed(Queue::Options o) {
    const auto refuse = [](const std::string& why) { throw std::invalid_argument("Queue::Options: " + why); };
    if (o.maxrelay == 0 || o.maxrelay > 10'000) refuse("maxrelay is not from 1 to 10000");
    if (o.per_destination == 0) refuse("per_destination is 0");
    if (o.mails_per_session == 0) refuse("mails_per_session is 0");
    if (o.avoid.count() < 0) refuse("avoid is negative");
    if (o.stall.count() <= 0) refuse("stall is not positive");
    o.schedule.check();
    if (o.hostname.empty()) o.hostname = system_name();
    return o;
}

}  // namespace

struct Queue::State {
    // Replaced as a whole.
    struct Setup {
        explicit Setup(Options o, std::shared_ptr<SessionCache> sessions, std::shared_ptr<HostFailures> failures)
            : options(completed(std::move(o))), routes(options, std::move(sessions), std::move(failures)) {}
        const Options options;
        const QueueRoutes routes;
    };

    State(Queue& q, std::shared_ptr<Store> s, Options o)
        : queue(q),
          store(std::move(s)),
          sessions(std::make_shared<SessionCache>(
              SessionCache::Limits{.idle = o.maxrelay, .mails = std::max<std::size_t>(1, o.mails_per_session)})),
          failures(std::make_shared<HostFailures>(HostFailures::Limits{.keep = o.avoid})),
          paused(o.paused),
          setup(std::make_shared<const Setup>(std::move(o), sessions, failures)) {
        make_agent();
    }

    void make_agent();
    std::shared_ptr<const Setup> now() const {
        const std::lock_guard lock(mutex);
        return setup;
    }
    void trouble(std::string_view about, std::string_view what) const noexcept;
    QueueTry deliver(const QueueJob& job);
    QueueWay way(const Sender& from, const Recipient& to) const;
    std::string way_of_domain(const std::string& domain) const;
    bool is_paused() const;

    QueuedMail mail(const Sender& from, const std::vector<Recipient>& to, const Message& message, const Choice&) const;
    void put(const QueuedMail& mail, Server::Client* client);
    void tell_agent(const QueuedMail& mail) noexcept;
    void arrived(Event::Arrived& e);

    Queue& queue;
    const std::shared_ptr<Store> store;
    const std::shared_ptr<SessionCache> sessions;
    const std::shared_ptr<HostFailures> failures;
    mutable QueueVoice voice;
    std::atomic<bool> paused;
    mutable std::mutex mutex;
    std::shared_ptr<const Setup> setup;
    std::shared_ptr<Shared> drain;  // of the present run
    std::unique_ptr<QueueAgent> agent;
    const pid_t owner = getpid();
};

// ---- what the agent asks for ----

void Queue::State::make_agent() {
    agent = std::make_unique<QueueAgent>(
        *store, QueueAgent::Work{.deliver = [this](const QueueJob& job) { return deliver(job); },
                                 .way = [this](const Sender& from, const Recipient& to) { return way(from, to); },
                                 .way_of_domain = [this](const std::string& d) { return way_of_domain(d); },
                                 .paused = [this] { return is_paused(); },
                                 .keep_idle = [this](std::size_t most) { sessions->trim(most); },
                                 .trouble = [this](const char* what) { trouble("", what); }});
    const auto& o = setup->options;
    agent->limit({o.maxrelay, std::min(o.per_destination, std::max<std::size_t>(1, o.maxrelay / 4)), o.stall});
}

void Queue::State::trouble(std::string_view about, std::string_view what) const noexcept try {
    Event::Trouble event(nullptr, std::string(about).append(what));
    voice.tell(event);
} catch (const std::exception&) {
}

QueueTry Queue::State::deliver(const QueueJob& job) {
    const auto how = now();
    std::shared_ptr<Shared> until;
    {
        const std::lock_guard lock(mutex);
        until = drain;
    }
    const auto& o = how->options;
    QueueDelivery delivery(
        {.queue = queue,
         .store = *store,
         .voice = voice,
         .schedule = o.schedule,
         .us = {.hostname = o.hostname},
         .notices = o.notices,
         .waiting = [this](const std::string& domain, QueueTime due) { agent->waiting(domain, due); },
         .look = [this] { agent->look(); }},
        std::move(until));
    return delivery.run(job);
}

// A router that stumbles makes mail wait.
QueueWay Queue::State::way(const Sender& from, const Recipient& to) const {
    const auto how = now();
    try {
        return how->routes.way(from, to);
    } catch (const std::exception& e) {
        trouble("router: ", e.what());
        static const auto nowhere = std::make_shared<const Relay::Options>();
        return {"no route", nowhere, false};
    }
}

// What most of its mail goes by.
std::string Queue::State::way_of_domain(const std::string& domain) const {
    Recipient postmaster;
    postmaster.local = "postmaster";
    postmaster.domain = domain;
    return way(Sender(), postmaster).name;
}

bool Queue::State::is_paused() const { return paused || store->setting(pause_setting).value_or("") == "1"; }

// ---- mail comes ----

QueuedMail Queue::State::mail(const Sender& from, const std::vector<Recipient>& to, const Message& message,
                              const Choice& choice) const {
    if (message.sunk()) throw std::invalid_argument("Queue: the message went into a sink");
    QueuedMail mail;
    mail.id = choice.id.empty() ? new_queue_id() : choice.id;
    mail.from = from;
    mail.to = to;
    mail.text = message;
    mail.arrived = choice.time.value_or(queue_now());
    mail.due = queue_now();
    mail.held = choice.held;
    const bool came = !message.trace().protocol.empty();
    if (came && message.own_received() == OwnReceived::due)
        mail.head = received_field(message, now()->options.hostname, mail.id);
    return mail;
}

void Queue::State::put(const QueuedMail& mail, Server::Client* client) {
    store->put(mail);
    // From here on it is kept, whatever happens.
    if (getpid() == owner && !mail.held) tell_agent(mail);
    if (!voice.heard<Event::Queued>()) return;
    Event::Queued event(queue, mail.id, mail.from, mail.to, mail.text, client);
    voice.tell(event);
}

void Queue::State::tell_agent(const QueuedMail& mail) noexcept try {
    const std::string* last = nullptr;
    for (const auto& to : mail.to) {
        if (last && same_text(*last, to.domain)) continue;
        last = &to.domain;
        agent->waiting(lower_case(to.domain), mail.due);
    }
} catch (const std::bad_alloc&) {
    agent->look();
}

void Queue::State::arrived(Event::Arrived& e) {
    if (!e.reply.positive()) return;
    auto& client = e.client;
    std::vector<Recipient> to;
    const auto content = client.MSG.content();
    for (const auto& r : client.TO)
        if (!content || !content->custody.attached() || !content->custody.begun(r)) to.push_back(r);
    if (to.empty()) return;
    Reply reply;
    try {
        const auto most = now()->options.max_hops;
        if (most > 0 && hops(client.MSG) >= most) {
            reply = too_many_hops;
        } else {
            const auto kept = mail(client.FROM, each_once(to), client.MSG, {});
            reply = {250, "2.0.0", "Queued as " + kept.id};
            put(kept, &client);
        }
    } catch (const StoreError& error) {
        reply = error.reply();
        trouble("", error.what());
    } catch (const std::exception& error) {
        reply = {451, "4.3.0", "The message could not be stored"};
        trouble("", error.what());
    }
    for (const auto& r : to) reply.positive() ? client.accept(r, reply) : client.reject(r, reply);
}

// ---- Queue ----

Queue::Queue(std::shared_ptr<Store> store, Options options) {
    if (!store) throw std::invalid_argument("Queue: no store");
    state_ = std::make_unique<State>(*this, std::move(store), std::move(options));
    Plugin::on<Event::Arrived>([this](Event::Arrived& e) { state_->arrived(e); });
}

Queue::~Queue() {
    // A forked copy has neither the threads nor a right to what they hold.
    if (getpid() != state_->owner) static_cast<void>(state_.release());
    else stop(std::chrono::seconds(0));
}

void Queue::configure(Options options) {
    auto next = std::make_shared<const State::Setup>(std::move(options), state_->sessions, state_->failures);
    const auto& o = next->options;
    state_->agent->limit({o.maxrelay, std::min(o.per_destination, std::max<std::size_t>(1, o.maxrelay / 4)), o.stall});
    const std::lock_guard lock(state_->mutex);
    state_->setup.swap(next);
}

SMTP::Options Queue::apply(SMTP::Options options) const {
    options.offer.dsn = options.offer.smtputf8 = true;
    state_->store->apply(options);
    return options;
}

void Queue::start() {
    if (getpid() != state_->owner) throw std::logic_error("Queue: start() in a forked child");
    {
        const std::lock_guard lock(state_->mutex);
        state_->drain = make_drain(state_->setup->options.hostname, state_->voice);
    }
    state_->agent->start();
}

void Queue::stop(std::chrono::seconds drain) {
    std::shared_ptr<Shared> run;
    {
        const std::lock_guard lock(state_->mutex);
        run = state_->drain;
    }
    if (!run) return;
    run->drain = drain;
    run->stopping = true;
    eventfd_write(run->stop_fd, 1);
    run->drained();  // begins now
    state_->agent->stop();
}

std::string Queue::enqueue(const Sender& from, const std::vector<Recipient>& to, const Message& message) {
    return enqueue(from, to, message, Choice());
}

std::string Queue::enqueue(const Sender& from, const std::vector<Recipient>& to, const Message& message,
                           const Choice& choice) {
    const auto mail = state_->mail(from, to, message, choice);
    state_->put(mail, nullptr);
    return mail.id;
}

void Queue::rest(Server::Client& client, const Relay& relay) {
    std::vector<Recipient> later;
    std::vector<DeliveryStatus> never;
    QueueTask task;
    const auto now = queue_now();
    for (const auto& result : relay.results()) {
        const auto reply = passed_on(result.reply);
        if (reply.temporary() || result.held_back) later.push_back(result.recipient);
        else if (reply.permanent())
            never.push_back({result.recipient, DeliveryAction::failed, reply, result.host, now, std::nullopt});
    }
    const auto& message = client.MSG;
    auto kept = later.empty() ? QueuedMail() : state_->mail(client.FROM, later, message, {});
    std::erase_if(never, [&](const DeliveryStatus& s) { return !wants_notice(client.FROM, s.recipient, s.action); });
    if (!never.empty()) {
        task.id = message.id();
        task.from = client.FROM;
        task.size = message.size();
        task.arrived = now;
        const NoticeFrom us{.hostname = state_->now()->options.hostname};
        if (auto notice = delivery_notice(us, task, message, never, now)) state_->put(*notice, nullptr);
    }
    if (!later.empty()) state_->put(kept, &client);
    client.reconsider();
    client.accept({250, "2.0.0", later.empty() ? "Done" : "Queued as " + kept.id});
}

Cancelled Queue::cancel(const std::string& id) {
    if (getpid() == state_->owner) state_->agent->withdraw(id);
    return state_->store->cancel(id);
}

bool Queue::hold(const std::string& id) {
    const bool found = state_->store->hold(id);
    if (getpid() == state_->owner) state_->agent->withdraw(id);
    return found;
}

bool Queue::release(const std::string& id) {
    const bool found = state_->store->release(id);
    if (found) state_->agent->look();
    return found;
}

std::uint64_t Queue::flush(const std::string& id) {
    state_->failures->forget();
    const auto count = state_->store->flush(id);
    state_->agent->look();
    return count;
}

std::uint64_t Queue::flush_domain(const std::string& domain) {
    state_->failures->forget();
    const auto count = state_->store->flush_domain(lower_case(domain));
    state_->agent->waiting(lower_case(domain), queue_now());
    return count;
}

std::uint64_t Queue::flush_all() {
    state_->failures->forget();
    const auto count = state_->store->flush_all();
    state_->agent->look();
    return count;
}

void Queue::pause(bool keep) {
    if (keep) state_->store->set(pause_setting, "1");
    else state_->paused = true;
    state_->agent->look();
}

void Queue::resume(bool keep) {
    if (keep) state_->store->set(pause_setting, "0");
    state_->paused = false;
    state_->agent->look();
}

bool Queue::paused() const { return state_->is_paused(); }

std::vector<QueueItem> Queue::items(std::int64_t after, std::size_t limit) {
    return state_->store->items(after, limit);
}
std::optional<QueueItem> Queue::item(const std::string& id) { return state_->store->item(id); }
QueueStats Queue::stats() { return state_->store->stats(); }
Store& Queue::store() const { return *state_->store; }
Pipeline& Queue::pipeline() const { return state_->voice.own(); }

bool Queue::attached(Pipeline& pipeline, const std::string&) {
    state_->voice.join(pipeline);
    return true;
}
void Queue::detached(Pipeline& pipeline, const std::string&) { state_->voice.leave(pipeline); }

}  // namespace Net::SMTP
