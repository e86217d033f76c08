#include "Domains.hpp"

#include <algorithm>
#include <stdexcept>

#include "../Client.hpp"

namespace Net::SMTP {

namespace {

void check(std::string_view domain) {
    const auto name = domain.substr(domain.starts_with('.') ? 1 : 0);
    if (!Address::parse("x@" + std::string(name)))
        throw std::invalid_argument("Domains: not a domain: " + std::string(domain));
}

// What stands in an unquoted local part, and would in quotes without a backslash.
bool plain(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c != 127 && c != '"' && c != '\\'; });
}

// "RCPT TO:<a@b@c>" becomes "RCPT TO:<"a@b"@c>"; other lines stay as they are, source routes too.
void quote_double_at(std::string& line) {
    constexpr std::string_view verb = "RCPT ";
    if (!same_text(std::string_view(line).substr(0, verb.size()), verb)) return;
    const auto open = line.find('<');
    const auto close = line.find('>');
    if (open == line.npos || close == line.npos || close < open) return;
    const auto path = std::string_view(line).substr(open + 1, close - open - 1);
    const auto last = path.rfind('@');
    if (last == path.npos || last == 0 || path.front() == '@') return;
    const auto local = path.substr(0, last);
    if (local.find('@') == local.npos || !plain(local)) return;
    line.insert(open + 1 + last, 1, '"').insert(open + 1, 1, '"');
}

}  // namespace

Domains::Domains(Options options) : options_(std::move(options)) {
    for (const auto& domain : options_.domains) check(domain);
    on<Event::Rcpt>([this](Event::Rcpt& e) { judge(e); });
    if (options_.double_at) on<Event::Command>([](Event::Command& e) { quote_double_at(e.line); });
}

bool Domains::ours(std::string_view domain) const {
    return std::ranges::any_of(options_.domains, [&](std::string_view own) {
        if (!own.starts_with('.')) return same_text(own, domain);
        return domain.size() > own.size() && same_text(domain.substr(domain.size() - own.size()), own);
    });
}

bool Domains::may_relay(const Server::Client& client) const {
    return options_.trusted.contains(client.peer()) || (options_.users && !client.user().empty());
}

// Whoever comes behind us may believe the local part and send the mail on to the host in it.
bool Domains::routed(const Address& recipient) const {
    return recipient.unquoted().find_first_of(options_.double_at ? "%!" : "@%!") != std::string::npos;
}

void Domains::judge(Event::Rcpt& e) const {
    const auto& to = e.recipient;
    if (!e.reply.positive() || may_relay(e.client)) return;
    if (to.domain.empty() ? same_text(to.local, "postmaster") : ours(to.domain) && !routed(to)) return;
    e.reply = {550, "5.7.1", "Relaying denied: <" + to.str() + '>'};
}

}  // namespace Net::SMTP
