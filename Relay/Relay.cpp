#include "Relay.hpp"

#include <algorithm>
#include <stdexcept>

#include "../Server/Client.hpp"
#include "../Server/Content.hpp"
#include "../Server/Event.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

const Reply no_route{451, "4.4.4", "No route"};
const Reply too_many_hops{554, "5.4.6", "Too many hops"};

std::string our_name(const Relay::Options& o, const std::string& received_by) {
    return !o.hostname.empty() ? o.hostname : !received_by.empty() ? received_by : system_name();
}

void check(const Relay::Options& o) {
    auto clean = [](const std::string& s) {
        return std::ranges::all_of(s, [](unsigned char c) { return c > 32 && c < 127; });
    };
    if (!clean(o.hostname) || o.hostname.size() > 255)
        throw std::invalid_argument("Relay::Options: hostname: " + o.hostname);
    if (o.total.count() <= 0) throw std::invalid_argument("Relay::Options: total is not positive");
    const auto& p = o.patience;
    for (auto t : {p.connect, p.greeting, p.helo, p.mail, p.rcpt, p.data, p.block, p.data_end, p.quit})
        if (t.count() <= 0) throw std::invalid_argument("Relay::Options: patience is not positive");
    if (!o.host.empty()) Endpoint::parse(o.host, 25);
}

// 421 says that whoever says it closes the connection (RFC 5321 3.8): the next hop does, we do not.
Reply passed_on(Reply reply) {
    if (reply.code == 421) reply.code = 451;
    return reply;
}

// A transaction opened at the next hop while the client is still naming recipients.
struct Ahead {
    Session session;
    Reply mail;  // to MAIL; while it is no, every recipient hears it
    Sender from;
    std::vector<Recipient> to;  // those that it has accepted
    std::vector<Reply> replies;
    Ahead(const Endpoint& host, const std::string& hostname, const Patience& p, Deadline end)
        : session(host, hostname, p, end) {}
};
using AheadPointer = std::shared_ptr<Ahead>;

// Whether it is just this that the next hop has accepted: the program may have changed its mind since.
bool fits(const Ahead& ahead, const Sender& from, const std::vector<Recipient>& to) {
    const auto same = [](const Recipient& a, const Recipient& b) { return a.id == b.id && a.str() == b.str(); };
    return !ahead.session.failed() && ahead.from.str() == from.str() && ahead.from.body == from.body &&
           std::ranges::equal(to, ahead.to, same);
}

Reply ask_ahead(Event::Rcpt& e, const Relay::Options& o) {
    auto& baggage = e.client.baggage();
    Reply reply;
    if (auto* opened = std::any_cast<AheadPointer>(&baggage)) {
        auto& ahead = **opened;
        reply = ahead.mail.positive() ? ahead.session.rcpt(e.recipient) : ahead.mail;
    } else {
        auto ahead = std::make_shared<Ahead>(Endpoint::parse(o.host, 25), our_name(o, e.client.options().hostname),
                                             o.patience, Clock::now() + o.total);
        baggage = ahead;
        ahead->from = e.client.FROM;
        std::vector<Reply> first;
        // SIZE is what the client said: the octets themselves have not come yet.
        const auto size = e.client.FROM.size.value_or(0);
        reply = ahead->mail = ahead->session.mail(e.client.FROM, size, {&e.recipient, 1}, first);
        if (reply.positive()) reply = first.front();
    }
    if (!reply.positive()) return reply;
    auto& ahead = **std::any_cast<AheadPointer>(&baggage);
    ahead.to.push_back(e.recipient);
    ahead.replies.push_back(reply);
    return reply;
}

}  // namespace

Relay::Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message)
    : Relay(from, to, message, Options()) {}

Relay::Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message, const Options& options) {
    check(options);
    auto& custody = message.custody();
    custody.begin(to);
    for (const auto& r : to) results_.push_back({r, {451, "4.3.0", "Delivery was not finished"}, "", false});

    if (options.host.empty()) {
        all(no_route, "");
    } else if (message.sunk()) {
        all({451, "4.3.0", "The message went into a sink"}, "");
    } else if (options.max_hops > 0 && message.headers("Received").size() >= options.max_hops) {
        all(too_many_hops, "");
    } else if (!to.empty()) {
        const auto* ahead = options.at_rcpt ? std::any_cast<AheadPointer>(&message.baggage()) : nullptr;
        if (ahead && fits(**ahead, from, to)) {
            (*ahead)->session.extend(Clock::now() + options.total);
            deliver((*ahead)->session, &(*ahead)->replies, from, to, message, options);
        } else {
            Session session(Endpoint::parse(options.host, 25), our_name(options, message.trace().hostname),
                            options.patience, Clock::now() + options.total);
            deliver(session, nullptr, from, to, message, options);
        }
    }
    for (const auto& r : results_) custody.settle(r.recipient, passed_on(r.reply));
}

void Relay::all(const Reply& reply, const std::string& host) {
    for (auto& r : results_) {
        r.reply = reply;
        r.host = host;
    }
}

void Relay::deliver(Session& session, const std::vector<Reply>* asked, const Sender& from,
                    const std::vector<Recipient>& to, const Message& message, const Options& options) {
    // A server that ends waits for us no longer than for anybody.
    if (const auto content = message.content()) session.heed(content->shared);
    const auto head = options.received ? received_field(message, our_name(options, "")) : std::string();
    std::vector<Reply> replies;
    if (asked) {
        replies = *asked;
    } else {
        const auto mail = session.mail(from, head.size() + message.size(), to, replies);
        if (!mail.positive()) return all(mail, session.host());
    }

    Reply worst;
    for (const auto& r : replies) worst = Reply(worse(worst, r));
    if (!worst.positive()) {
        all(worst, session.host());
        for (std::size_t i = 0; i < results_.size(); ++i)
            if (!replies[i].positive()) results_[i].reply = replies[i];
        session.reset();
    } else {
        all(session.data(head, message, from.body == BodyType::binary_mime), session.host());
        for (auto& r : results_) r.in_doubt = session.in_doubt();
    }
    session.quit();
}

bool Relay::delivered() const { return std::ranges::all_of(results_, &Result::delivered); }

void Relay::attach(Server& server, const Options& options) {
    check(options);
    server.on<Event::Rcpt>([options](Event::Rcpt& e) {
        if (!e.reply.positive()) return;
        const auto& to = e.client.TO;
        if (options.one_domain && !to.empty() && !same_text(to.front().domain, e.recipient.domain))
            e.reply = {452, "4.5.3", "One domain a transaction"};
        else if (options.at_rcpt) e.reply = options.host.empty() ? no_route : passed_on(ask_ahead(e, options));
    });
}

Offer Relay::offered(const Options& options, Reply* failure) {
    check(options);
    if (failure) *failure = options.host.empty() ? no_route : Reply();
    if (options.host.empty()) return {};
    Session session(Endpoint::parse(options.host, 25), our_name(options, ""), options.patience,
                    Clock::now() + options.total);
    if (session.failed() && failure) *failure = *session.failed();
    return session.offer();
}

}  // namespace Net::SMTP
