#include "Plan.hpp"

#include <algorithm>

#include "../Server/Fields.hpp"
#include "../Server/Shared.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

// Whether both make the same MAIL, and the same RCPT.
bool same(const Sender& a, const Sender& b) {
    return a.str() == b.str() && a.body == b.body && a.smtputf8 == b.smtputf8 && a.ret == b.ret && a.envid == b.envid &&
           a.auth == b.auth;
}
bool same(const Recipient& a, const Recipient& b) {
    const auto original = [](const Recipient& r) { return r.orcpt ? r.orcpt->type + ';' + r.orcpt->address : ""; };
    return a.id == b.id && a.str() == b.str() && a.notify.str() == b.notify.str() && original(a) == original(b);
}

// RFC 4954 6, RFC 3207 4: it wants us to log in or to encrypt, or to do so otherwise.
bool wants_security(int code) { return code == 530 || code == 534 || code == 535 || code == 538; }

}  // namespace

bool routed(const Relay::Options& o) { return !o.host.empty() || o.resolver; }

std::string destination(const Relay::Options& o, const Recipient& to) {
    if (!o.host.empty()) return "via " + o.host;
    return lower_case(to.domain);
}

std::string our_name(const Relay::Options& o, const std::string& received_by) {
    return !o.hostname.empty() ? o.hostname : !received_by.empty() ? received_by : system_name();
}

Reply passed_on(Reply reply) {
    if (reply.code == 421) reply.code = 451;
    if ((reply.code >= 500 && reply.code <= 504) || reply.code == 555) reply.code = 550;
    if (wants_security(reply.code)) {  // no mail must bounce for that
        reply.code = 451;
        if (!reply.status.empty()) reply.status[0] = '4';
    }
    return reply;
}

bool ours_to_mend(const Reply& reply) {
    return wants_security(reply.code) || (reply.code == 451 && (reply.status == "4.7.5" || reply.status == "4.7.8"));
}

Upstream smart_host(const Relay::Options& o) { return Upstream::parse(o.host, o.tls.options().implicit ? 465 : 25); }

std::unique_ptr<Transfer> make_transfer(const Relay::Options& o, const std::string& destination, const Arrival& arrival,
                                        Deadline end) {
    const auto name = our_name(o, arrival.hostname);
    HostWalk::Settings how{.resolver = o.resolver.get(),
                           .port = o.mx_port,
                           .hostname = name,
                           .ourselves = arrival.local,
                           .lookup = o.patience.lookup,
                           .wait = Shared::wait(arrival.server, end),
                           .level = o.tls.level(o.login != nullptr),
                           .witness = {o.transcript, arrival.session}};
    auto walk =
        o.host.empty() ? HostWalk::by_mx(destination, std::move(how)) : HostWalk::to(smart_host(o), std::move(how));
    return std::make_unique<Transfer>(std::move(walk), Transfer::Settings{.hostname = name,
                                                                          .patience = o.patience,
                                                                          .chunking = o.chunking,
                                                                          .partial = o.partial || arrival.each,
                                                                          .cache = o.sessions.get(),
                                                                          .failures = o.failures.get(),
                                                                          .security = {o.tls, o.login},
                                                                          .end = end,
                                                                          .server = arrival.server});
}

Reply Ahead::ask(const Relay::Options& o, const Arrival& arrival, const Sender& sender, const Recipient& to) {
    const auto where = destination(o, to);
    const auto known = std::ranges::find(groups, where, &Group::destination);
    if (known != groups.end()) {
        known->transfer->extend(Clock::now() + o.total, arrival.server);
        return known->transfer->add(to);
    }
    if (groups.size() >= o.max_domains) return too_many_domains;
    from = sender;
    groups.push_back({where, {}, make_transfer(o, where, arrival, Clock::now() + o.total)});
    // SIZE is what the client said: the octets themselves have not come yet.
    return groups.back().transfer->begin(sender, sender.size.value_or(0), to);
}

std::unique_ptr<Transfer> Ahead::take(const Relay::Options& o, const std::string& where, const Sender& sender,
                                      const std::vector<Recipient>& to) {
    const auto known = std::ranges::find(groups, where, &Group::destination);
    const auto same_recipient = [](const Recipient& a, const Recipient& b) { return same(a, b); };
    if (known == groups.end() || !known->transfer || !known->transfer->still_ready() || !same(from, sender) ||
        known->transfer->security() != Security{o.tls, o.login} ||
        !std::ranges::equal(to, known->transfer->to(), same_recipient))
        return nullptr;
    return std::move(known->transfer);
}

}  // namespace Net::SMTP
