#include "Relay.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "../Server/Client.hpp"
#include "../Server/Content.hpp"
#include "../Server/Event.hpp"
#include "../Server/Shared.hpp"
#include "Plan.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours longest(24 * 366);
const Reply no_route{451, "4.4.4", "No route"};
const Reply unreadable{451, "4.3.0", "The message could not be read"};

void check_security(const Relay::Options& o) {
    using Level = ClientTLS::Level;
    const auto refuse = [](const std::string& why) { throw std::invalid_argument("Relay::Options: " + why); };
    if (o.login && o.host.empty()) refuse("login: without host");
    if (o.target) return;
    const auto level = o.tls.level(o.login != nullptr);
    const bool validated = o.resolver && o.resolver->validates();
    if (level == Level::dane && !validated) refuse("tls: dane without a resolver that validates (a trust anchor)");
    if (o.host.empty()) return;
    const auto to = smart_host(o).endpoint;
    const bool required = o.tls.options().level.value_or(Level::may) > Level::may || o.tls.options().implicit;
    if (to.local() && required) refuse("tls: over a Unix socket: " + o.host);
    if (level == Level::dane && !address_octets(to.host).empty()) refuse("tls: dane of an address: " + o.host);
}

// Lines that end in CRLF, each a field's name and a colon, or what goes on with a blank (RFC 5322 2.2).
bool whole_fields(std::string_view text) {
    const auto named = [](std::string_view line) {
        const auto name = line.substr(0, line.find(':'));
        return !name.empty() && name.size() < line.size() &&
               std::ranges::all_of(name, [](unsigned char c) { return c > 32 && c < 127; });
    };
    for (bool first = true; !text.empty(); first = false) {
        const auto end = text.find("\r\n");
        if (end == text.npos) return false;
        const auto line = text.substr(0, end);
        const auto blanks = line.find_first_not_of(" \t");
        const bool goes_on = !first && blanks > 0 && blanks != line.npos;
        for (const char c : {'\r', '\n', '\0'})
            if (line.find(c) != line.npos) return false;
        if (!goes_on && !named(line)) return false;
        text.remove_prefix(end + 2);
    }
    return true;
}

void check(const Relay::Options& o) {
    auto clean = [](const std::string& s) {
        return std::ranges::all_of(s, [](unsigned char c) { return c > 32 && c < 127; });
    };
    if (!clean(o.hostname) || o.hostname.size() > 255)
        throw std::invalid_argument("Relay::Options: hostname: " + o.hostname);
    if (o.total.count() <= 0) throw std::invalid_argument("Relay::Options: total is not positive");
    if (o.total > longest) throw std::invalid_argument("Relay::Options: total is over a year");
    const auto& p = o.patience;
    for (auto t :
         {p.connect, p.greeting, p.helo, p.mail, p.rcpt, p.data, p.block, p.data_end, p.quit, p.lookup, p.handshake}) {
        if (t.count() <= 0) throw std::invalid_argument("Relay::Options: patience is not positive");
        if (t > longest) throw std::invalid_argument("Relay::Options: patience is over a year");
    }
    if (o.mx_port == 0) throw std::invalid_argument("Relay::Options: mx_port is 0");
    if (!whole_fields(o.head)) throw std::invalid_argument("Relay::Options: head is not whole header fields");
    check_security(o);
}

// What is known before anybody is asked.
std::optional<Reply> refused(const Message& message, const Relay::Options& o) {
    if (!o.target && !routed(o)) return no_route;
    if (message.sunk()) return Reply{451, "4.3.0", "The message went into a sink"};
    try {
        if (o.max_hops > 0 && hops(message) >= o.max_hops) return too_many_hops;
    } catch (const std::system_error&) {
        return unreadable;
    }
    return std::nullopt;
}

// What goes in front of the text.
std::string head_of(const Message& message, const Relay::Options& o) {
    if (!o.head.empty()) return o.head;
    const bool due = o.received && message.own_received() == OwnReceived::due;
    return due ? received_field(message, our_name(o, message.trace().hostname)) : std::string();
}

// The client's: a message's id is the session's, and its number there.
std::string session_of(const Message& message) { return message.id().substr(0, message.id().rfind('-')); }

std::vector<Group> grouped(const Relay::Options& o, const std::vector<Recipient>& to) {
    std::vector<Group> groups;
    for (std::size_t i = 0; i < to.size(); ++i) {
        const auto where = destination(o, to[i]);
        auto known = std::ranges::find(groups, where, &Group::destination);
        if (known == groups.end()) known = groups.insert(groups.end(), Group{where, {}, nullptr});
        known->members.push_back(i);
    }
    return groups;
}

}  // namespace

Relay::Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message)
    : Relay(from, to, message, Options()) {}

Relay::Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message, const Options& options) {
    check(options);
    message.custody().begin(to);
    for (const auto& r : to) results_.push_back({r, {451, "4.3.0", "Delivery was not finished"}, ""});

    if (const auto refusal = refused(message, options)) all(*refusal, "");
    else if (options.target) deliver_to_target(from, to, message, options);
    else if (!to.empty()) deliver(from, to, message, options);
    settle(message);
}

void Relay::all(const Reply& reply, const std::string& host) {
    for (auto& r : results_) {
        r.reply = reply;
        r.host = host;
    }
}

// Who can hear only one answer must not hear "never" where some have the mail already.
void Relay::settle(const Message& message) const {
    const auto content = message.content();
    const bool mixed = std::ranges::any_of(results_, &Result::delivered) && !delivered();
    const auto unsafe = std::ranges::find_if(results_, [](const Result& r) { return ours_to_mend(r.reply); });
    if (unsafe != results_.end() && content && content->shared) content->shared->trouble(nullptr, unsafe->reply.text);
    for (const auto& r : results_) {
        auto reply = passed_on(r.reply);
        if (mixed && reply.permanent() && !(content && content->each)) {
            reply.code = 451;
            if (!reply.status.empty()) reply.status[0] = '4';
        }
        message.custody().settle(r.recipient, reply);
    }
}

void Relay::deliver_to_target(const Sender& from, const std::vector<Recipient>& to, const Message& message,
                              const Options& options) {
    const auto content = message.content();
    const auto head = head_of(message, options);
    const auto wait = Shared::wait(content ? content->shared : nullptr, Clock::now() + options.total);
    // All that needs memory comes before: what was delivered must not be delivered again for a lack of it.
    const auto name = options.target->name();
    for (auto& result : results_) result.host = name;
    std::vector<Reply> replies;
    std::string trouble;
    try {
        replies = options.target->deliver(from, to, message, head, wait);
        if (replies.size() != to.size()) trouble = "has another number of replies than of recipients";
    } catch (const std::exception& e) {
        trouble = e.what();
    }
    if (!trouble.empty() && content && content->shared) content->shared->trouble(nullptr, name + ": " + trouble);
    replies.resize(to.size(), {451, "4.3.0", "Delivery failed"});
    for (std::size_t i = 0; i < results_.size(); ++i) results_[i].reply = std::move(replies[i]);
}

void Relay::deliver(const Sender& from, const std::vector<Recipient>& to, const Message& message,
                    const Options& options) {
    auto groups = grouped(options, to);
    if (groups.size() > options.max_domains) return all(too_many_domains, "");

    const auto end = Clock::now() + options.total;
    const auto content = message.content();
    const bool each = content && content->each;
    const Arrival arrival{message.trace().hostname, message.trace().local, content ? content->shared : nullptr, each,
                          session_of(message)};
    const auto head = head_of(message, options);
    const auto* ahead = options.at_rcpt ? std::any_cast<AheadPointer>(&message.baggage()) : nullptr;
    const bool partial = options.partial || each;

    // Everybody is asked before anybody gets it.
    Reply worst;
    for (auto& group : groups) {
        std::vector<Recipient> members;
        for (const auto i : group.members) members.push_back(to[i]);
        if (ahead) group.transfer = (*ahead)->take(options, group.destination, from, members);
        if (group.transfer) {
            group.transfer->extend(end, arrival.server);
        } else {
            group.transfer = make_transfer(options, group.destination, arrival, end);
            const bool alone = to.size() == 1 && from.body != BodyType::binary_mime && !message.bare_line_ends();
            group.transfer->open(from, head.size() + message.size(), std::move(members), alone);
        }
        group.transfer->suit(head, message);
        const auto& replies = group.transfer->replies();
        for (std::size_t i = 0; i < group.members.size(); ++i) {
            auto& result = results_[group.members[i]];
            result.reply = replies[i];
            result.host = group.transfer->host();
            result.tls = group.transfer->tls();
            worst = Reply(worse(worst, result.reply));
        }
    }

    // Whoever refuses now ends it: those who have not got it yet will get it with the sender's next try.
    for (auto& group : groups) {
        if (!group.transfer->ready() || (!partial && !worst.positive())) continue;
        const auto outcomes = group.transfer->send(head, message);
        for (std::size_t i = 0; i < group.members.size(); ++i) {
            auto& result = results_[group.members[i]];
            result.reply = outcomes[i].reply;
            result.in_doubt = outcomes[i].in_doubt;
            result.notifies = result.delivered() && group.transfer->notifies();
            result.host = group.transfer->host();
            result.tls = group.transfer->tls();
            worst = Reply(worse(worst, result.reply));
        }
        group.members.clear();
    }
    // Who would have had it, but for the others. Nothing is positive here that was not sent.
    const auto worst_one = std::ranges::find(results_, worst, &Result::reply);
    const auto who = worst_one == results_.end() ? std::string() : worst_one->host;
    const auto how = worst_one == results_.end() ? std::string() : worst_one->tls;
    const Reply lost{451, "4.4.2", "Connection to the next hop lost"};
    for (const auto& group : groups)
        for (const auto i : group.members)
            if (results_[i].delivered()) {
                results_[i].reply = worst.positive() ? lost : worst;
                results_[i].held_back = true;
                results_[i].host = who;
                results_[i].tls = how;
            }
}

bool Relay::delivered() const { return std::ranges::all_of(results_, &Result::delivered); }

void Relay::attach(Server& server, const Options& options) {
    check(options);
    server.on<Event::Rcpt>([options, shared = std::weak_ptr(server.shared_)](Event::Rcpt& e) {
        if (!e.reply.positive() || options.target) return;
        const auto& to = e.client.TO;
        if (options.one_domain && !to.empty() && !same_text(to.front().domain, e.recipient.domain)) {
            e.reply = {452, "4.5.3", "One domain a transaction"};
        } else if (options.at_rcpt) {
            if (!routed(options)) {
                e.reply = no_route;
                return;
            }
            auto& baggage = e.client.baggage();
            if (!std::any_cast<AheadPointer>(&baggage)) baggage = std::make_shared<Ahead>();
            const bool each = e.client.options().protocol == Protocol::lmtp;
            const Arrival arrival{e.client.options().hostname, e.client.local(), shared.lock(), each, e.client.id()};
            const auto& ahead = *std::any_cast<AheadPointer>(&baggage);
            const auto reply = ahead->ask(options, arrival, e.client.FROM, e.recipient);
            if (ours_to_mend(reply) && arrival.server) arrival.server->trouble(&e.client, reply.text);
            e.reply = passed_on(reply);
        } else if (options.host.empty() && options.resolver) {
            std::vector<std::string> domains{destination(options, e.recipient)};
            for (const auto& r : to)
                if (auto d = destination(options, r); std::ranges::find(domains, d) == domains.end())
                    domains.push_back(std::move(d));
            if (domains.size() > options.max_domains) e.reply = too_many_domains;
        }
    });
}

Offer Relay::offered(const Options& options, Reply* failure) {
    check(options);
    Reply unused;
    auto& why = failure ? *failure : unused;
    why = no_route;
    if (options.host.empty()) return {};
    const auto end = Clock::now() + options.total;
    const auto name = our_name(options, "");
    auto walk = HostWalk::to(smart_host(options), {.resolver = options.resolver.get(),
                                                   .hostname = name,
                                                   .lookup = options.patience.lookup,
                                                   .wait = end,
                                                   .level = options.tls.level(options.login != nullptr),
                                                   .witness = {options.transcript, ""}});
    bool tried = false;
    while (const auto upstream = walk.next()) {
        const Session session(*upstream, name, options.patience, end, nullptr, {options.tls, nullptr});
        why = session.failed().value_or(Reply());
        if (why.positive()) return session.offer();
        tried = true;
    }
    if (!tried) why = walk.failure();
    return {};
}

}  // namespace Net::SMTP
