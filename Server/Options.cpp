#include "Options.hpp"

#include <algorithm>
#include <stdexcept>

#include "Command.hpp"

namespace Net::SMTP {

void Options::check() const {
    auto bad = [](const std::string& what) { throw std::invalid_argument("Options: " + what); };
    auto clean = [](const std::string& text) {
        return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 32 && c != 127; });
    };
    if (hostname.size() > 255 || !clean(hostname) || hostname.find(' ') != hostname.npos) bad("hostname: " + hostname);
    if (!clean(greeting) || greeting.size() > 200) bad("greeting holds a control character or is over 200 octets");
    const auto word = [](const std::string& text) {
        return !text.empty() && text.size() <= 60 && std::ranges::all_of(text, [](char c) {
            return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
        });
    };
    for (const auto* words : {&own.verbs, &own.mail_parameters, &own.rcpt_parameters})
        for (const auto& w : *words)
            if (!word(w)) bad("own: not capital letters, digits and '-': " + w);
    for (const auto& text : own.verbs) {
        const auto verb = Command::parse(text).verb;
        if (verb < Verb::SEND && verb != Verb::EXPN) bad("own: a verb of the server's: " + text);
    }
    const auto ours = {"PIPELINING",          "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME",
                       "ENHANCEDSTATUSCODES", "DSN",  "AUTH",     "STARTTLS", "HELP"};
    for (const auto& keyword : own.keywords) {
        const auto first = keyword.substr(0, keyword.find(' '));
        if (!word(first) || !clean(keyword) || keyword.size() > 400) bad("own: no line of EHLO: " + keyword);
        if (simple && std::ranges::count(ours, first) > 0) bad("own: a keyword of the server's: " + keyword);
    }
    if (own.keywords.size() > 50 || own.verbs.size() > 50) bad("own: more than 50 keywords, or verbs");
    if (max_command_line > 1 << 20) bad("max_command_line is over 1 MiB");
    if (spool_dir.empty()) bad("spool_dir is empty");
    if (offer.binary_mime && !offer.chunking) bad("offer.binary_mime needs offer.chunking (RFC 3030)");
    if (require_tls && !tls) bad("require_tls needs tls");
    if (require_auth && !auth) bad("require_auth needs auth");
    if (require_auth && !tls && clear_auth == ClearAuth::never) bad("require_auth needs tls, or clear_auth");
    for (auto t : {command_timeout, block_timeout, data_timeout, handshake_timeout})
        if (t <= seconds(0)) bad("a timeout is not positive");
    for (auto t : {session_timeout, data_grace, auth_delay, auth_window})
        if (t < seconds(0)) bad("a timeout is negative");
}

Options Options::submission(std::shared_ptr<TLSAcceptor> tls, std::shared_ptr<Authenticator> auth) {
    Options o;
    o.require_tls = tls != nullptr;
    o.tls = std::move(tls);
    o.auth = std::move(auth);
    o.require_auth = o.complete = o.qualified = true;
    o.command_timeout = seconds(120);
    return o;
}

}  // namespace Net::SMTP
