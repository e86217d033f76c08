#include "Handlers.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "../Server/Client.hpp"
#include "../Server/Content.hpp"
#include "../Server/Shared.hpp"
#include "Plan.hpp"

namespace Net::SMTP {

namespace {

using Recipients = std::vector<Recipient>;
using Pattern = std::unique_ptr<const RE2>;

const Reply failed{451, "4.3.0", "Local error in processing"};

Pattern compiled(const std::string& text) {
    if (text.empty()) throw std::invalid_argument("no pattern");
    if (text.size() > Handlers::max_pattern) throw std::invalid_argument("the pattern is too long");
    RE2::Options options;
    options.set_max_mem(std::int64_t{Handlers::max_memory});
    options.set_never_capture(true);
    options.set_log_errors(false);  // standard error is the program's
    auto pattern = std::make_unique<RE2>(text, options);
    if (!pattern->ok()) throw std::invalid_argument(pattern->error());
    return pattern;
}

bool matches(const RE2& pattern, const std::string& text) {
    return pattern.Match(text, 0, text.size(), RE2::UNANCHORED, nullptr, 0);
}

// "a"@b is a@b (RFC 5321 4.1.2): nobody gets past a pattern by quotes that he does not need.
std::string plainest(const Address& address) {
    if (!address.local.starts_with('"')) return address.str();
    auto plain = address;
    plain.local = address.unquoted();
    const auto same = Address::parse(plain.str());
    const bool needed = plain.local.starts_with('"') || !same || same->local != plain.local;
    return needed ? address.str() : plain.str();
}

void check(const Handlers::Function& take) {
    if (!take) throw std::invalid_argument("no function");
}
void check(const std::shared_ptr<Target>& take) {
    if (!take) throw std::invalid_argument("no target");
}
// A Relay for nobody looks at its options, and no further. A target would be asked.
void check(const Relay::Options& take) {
    if (!take.target) Relay(Sender(""), {}, Message(), take);
}

// By the session's own account, whatever the program has made of MSG.
void settle(Server::Client& client, const Recipient& to, const Reply& reply) {
    if (reply.positive()) client.accept(to, reply);
    else client.reject(to, reply);
}

void take(const Handlers::Function& function, Server::Client& client, const Recipients& to) {
    const auto reply = function(client, to);
    if (reply.code / 100 != 2 && !reply.temporary() && !reply.permanent())
        throw std::runtime_error("this is no answer: " + reply.str());
    for (const auto& r : to) settle(client, r, reply);
}
void take(const Relay::Options& options, Server::Client& client, const Recipients& to) {
    const Relay relay(client.FROM, to, client.MSG, options);
    if (client.MSG.custody().attached()) return;
    // A message of the program's own in place of the one that came: the sender has heard nothing of it yet.
    for (const auto& r : relay.results()) settle(client, r.recipient, passed_on(r.reply));
}
void take(const std::shared_ptr<Target>& target, Server::Client& client, const Recipients& to) {
    take(Relay::Options{.target = target}, client, to);
}

// Each of them has an answer then. What went wrong, for the program; "" if nothing did.
std::string guarded(const Handlers::Handler& handler, Server::Client& client, const Recipients& to) {
    std::string what;
    auto refusal = failed;
    try {
        std::visit([&](const auto& how) { take(how, client, to); }, handler.take);
        return "";
    } catch (const Reject& r) {
        refusal = r.reply();
    } catch (const std::exception& e) {
        what = "handler for " + handler.pattern + ": " + e.what();
    } catch (...) {
        what = "handler for " + handler.pattern + ": it threw an exception of an unknown type";
    }
    for (const auto& r : to) settle(client, r, refusal);
    return what;
}

}  // namespace

struct Handlers::List {
    std::vector<Handler> handlers{};
    std::vector<Pattern> patterns{};

    std::optional<std::size_t> find(const Address& recipient) const {
        const auto text = plainest(recipient);
        const auto found = std::ranges::find_if(patterns, [&](const Pattern& p) { return matches(*p, text); });
        if (found == patterns.end()) return std::nullopt;
        return std::size_t(found - patterns.begin());
    }
};

Handlers::Handlers() : Handlers(Options()) {}

Handlers::Handlers(const Options& options) : list_(std::make_shared<const List>()) {
    if (options.one_handler) on<Event::Rcpt>([this](Event::Rcpt& e) { keep_apart(e); });
    on<Event::Arrived>([this](Event::Arrived& e) { hand_out(e); });
}

Handlers::~Handlers() = default;

void Handlers::set(std::vector<Handler> handlers) {
    if (handlers.size() > max_handlers)
        throw std::invalid_argument("more than " + std::to_string(max_handlers) + " handlers");
    List list;
    for (std::size_t i = 0; i < handlers.size(); ++i) {
        try {
            list.patterns.push_back(compiled(handlers[i].pattern));
            std::visit([](const auto& how) { check(how); }, handlers[i].take);
        } catch (const std::invalid_argument& e) {
            throw std::invalid_argument("handlers[" + std::to_string(i) + "]: " + e.what());
        }
    }
    list.handlers = std::move(handlers);
    std::shared_ptr<const List> next = std::make_shared<List>(std::move(list));
    const std::lock_guard lock(mutex_);  // gone before the old list is, and what the program's functions hold
    list_.swap(next);
}

std::shared_ptr<const Handlers::List> Handlers::now() const {
    const std::lock_guard lock(mutex_);
    return list_;
}

std::vector<Handlers::Handler> Handlers::get() const { return now()->handlers; }

std::optional<std::size_t> Handlers::find(const Address& recipient) const { return now()->find(recipient); }

Router Handlers::router(std::shared_ptr<const Handlers> handlers) {
    return [handlers = std::move(handlers)](const Sender&, const Recipient& to) -> std::optional<Route> {
        const auto list = handlers->now();
        const auto whose = list->find(to);
        if (!whose) return std::nullopt;
        const auto& take = list->handlers[*whose].take;
        if (const auto* how = std::get_if<Relay::Options>(&take)) return Route{"", *how};
        if (const auto* target = std::get_if<std::shared_ptr<Target>>(&take)) return Route{"", {.target = *target}};
        return std::nullopt;
    };
}

void Handlers::keep_apart(Event::Rcpt& e) const {
    const auto& to = e.client.TO;
    if (!e.reply.positive() || to.empty() || e.client.options().protocol == Protocol::lmtp) return;
    const auto list = now();
    if (list->find(to.front()) != list->find(e.recipient)) e.reply = {452, "4.5.3", "One destination a transaction"};
}

void Handlers::hand_out(Event::Arrived& e) const {
    if (!e.reply.positive()) return;
    const auto list = now();
    auto& client = e.client;
    std::vector<Recipients> shares(list->handlers.size());
    Recipients rest;
    for (const auto& r : client.TO) {
        const auto whose = list->find(r);
        (whose ? shares[*whose] : rest).push_back(r);
    }
    client.TO = std::move(rest);
    for (std::size_t i = 0; i < shares.size(); ++i) {
        if (shares[i].empty()) continue;
        const auto trouble = guarded(list->handlers[i], client, shares[i]);
        if (!trouble.empty()) tell(client, trouble);
    }
}

// Of a message of the program's own nobody knows the server.
void Handlers::tell(Server::Client& client, const std::string& what) const noexcept try {
    const auto content = client.MSG.content();
    if (!content || !content->shared) return;
    const auto& pipeline = content->shared->pipeline;
    Event::Trouble trouble(&client, what, pipeline.name_of(*this));
    pipeline.send(trouble);
} catch (const std::exception&) {
    // Nothing but a lack of memory gets here; the recipients have their answer.
}

}  // namespace Net::SMTP
