#include "Address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_local = 64;    // RFC 5321 4.5.3.1.1
constexpr std::size_t longest_domain = 255;  // 4.5.3.1.2
constexpr std::size_t longest_label = 63;    // RFC 1035 2.3.4
constexpr std::size_t longest_envid = 100;   // RFC 3461 5.4
constexpr std::size_t longest_orcpt = 500;   // RFC 3461 5.4
constexpr std::size_t most_parameters = 32;

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool high(char c) { return static_cast<unsigned char>(c) > 127; }
char upper(char c) { return c >= 'a' && c <= 'z' ? char(c - 32) : c; }

bool atext(char c) {
    return letter(c) || digit(c) || std::string_view("!#$%&'*+-/=?^_`{|}~").find(c) != std::string_view::npos;
}

// A text that is eaten from its front.
struct Scanner {
    std::string_view rest;
    bool utf8;

    bool empty() const { return rest.empty(); }
    char peek() const { return rest.empty() ? '\0' : rest.front(); }
    bool eat(char c) {
        if (rest.empty() || rest.front() != c) return false;
        rest.remove_prefix(1);
        return true;
    }
    template <class Fits>
    std::string_view run(Fits fits) {
        std::size_t n = 0;
        while (n < rest.size() && fits(rest[n])) ++n;
        auto out = rest.substr(0, n);
        rest.remove_prefix(n);
        return out;
    }

    bool dot_string() {
        do {
            if (run([&](char c) { return atext(c) || (utf8 && high(c)); }).empty()) return false;
        } while (eat('.'));
        return true;
    }

    bool quoted_string() {
        if (!eat('"')) return false;
        while (!empty()) {
            if (eat('"')) return true;
            if (eat('\\')) {  // quoted-pairSMTP: graphic ASCII or a blank
                if (peek() < 32 || peek() > 126) return false;
            } else if (!((peek() >= 32 && peek() <= 126) || (utf8 && high(peek())))) {
                return false;
            }
            rest.remove_prefix(1);
        }
        return false;
    }

    bool local_part(std::string& out) {
        const auto start = rest;
        if (!(peek() == '"' ? quoted_string() : dot_string())) return false;
        const auto length = start.size() - rest.size();
        if (length > longest_local) return false;
        out.assign(start.substr(0, length));
        return true;
    }

    bool host_name() {
        do {
            auto label = run([&](char c) { return letter(c) || digit(c) || c == '-' || (utf8 && high(c)); });
            if (label.empty() || label.front() == '-' || label.back() == '-') return false;
            // How long a label of UTF-8 is, only its A-label would tell; the domain has its limit all the same.
            if (label.size() > longest_label && std::ranges::none_of(label, high)) return false;
        } while (eat('.'));
        return true;
    }

    // Snum of RFC 5321 4.1.3 may have leading zeros, which inet_pton does not know.
    static bool ipv4(std::string_view text) {
        for (int part = 0; part < 4; ++part) {
            const auto end = part < 3 ? text.find('.') : text.size();
            if (end == text.npos || end < 1 || end > 3) return false;
            int n = 0;
            for (char c : text.substr(0, end)) {
                if (!digit(c)) return false;
                n = n * 10 + (c - '0');
            }
            if (n > 255) return false;
            text.remove_prefix(part < 3 ? end + 1 : end);
        }
        return text.empty();
    }

    static bool ipv6(std::string text) {
        // inet_pton is right but for two things of RFC 5321 4.1.3: "::" stands for two groups at least, and the zeros
        // above.
        const auto last = text.rfind(':');
        if (last != text.npos && text.find('.', last) != text.npos) {
            if (!ipv4(std::string_view(text).substr(last + 1))) return false;
            text.replace(last + 1, text.npos, "0.0.0.0");
        }
        unsigned char binary[16];
        if (inet_pton(AF_INET6, text.c_str(), binary) != 1) return false;
        if (text.find("::") == text.npos) return true;
        int groups = text.find('.') == text.npos ? 0 : 1;  // an IPv4 address is two
        for (std::size_t i = 0; i < text.size(); ++i) groups += text[i] != ':' && (i == 0 || text[i - 1] == ':');
        return groups <= 6;
    }

    bool literal() {
        if (!eat('[')) return false;
        auto inside = std::string(run([](char c) { return c >= 33 && c <= 126 && c != '[' && c != ']' && c != '\\'; }));
        if (inside.empty() || inside.size() > longest_domain || !eat(']')) return false;
        if (ipv4(inside)) return true;
        const auto colon = inside.find(':');
        if (colon == inside.npos || colon == 0) return false;
        auto tag = std::string_view(inside).substr(0, colon);
        if (same_text(tag, "IPv6")) return ipv6(inside.substr(colon + 1));
        // General-address-literal: a Standardized-tag and dcontent; none but IPv6 is registered (RFC 5321 4.1.3).
        return false;
    }

    bool domain(std::string& out) {
        const auto start = rest;
        if (!(peek() == '[' ? literal() : host_name())) return false;
        const auto length = start.size() - rest.size();
        if (length > longest_domain) return false;
        out.assign(start.substr(0, length));
        return true;
    }

    bool mailbox(Address& a) { return local_part(a.local) && eat('@') && domain(a.domain); }

    // "@hub,@other:", to be accepted and ignored (RFC 5321 4.1.1.3, appendix C).
    bool source_route() {
        std::string ignored;
        do {
            if (!eat('@') || !domain(ignored)) return false;
        } while (eat(','));
        return eat(':');
    }
};

bool postmaster(std::string_view text) { return same_text(text, "postmaster"); }

enum class Path { sender, recipient };

// The path at the front of `s`, brackets included.
bool path(Scanner& s, Path kind, const Leniency& lenient, Address& a, std::string& raw) {
    const auto start = s.rest;
    const bool brackets = s.eat('<');
    if (!brackets && !lenient.missing_brackets) return false;

    if (brackets && kind == Path::sender && s.peek() == '>') {
        // the null reverse-path
    } else if (brackets && kind == Path::recipient && s.rest.size() > 10 && s.rest[10] == '>' &&
               postmaster(s.rest.substr(0, 10))) {
        a.local.assign(s.rest.substr(0, 10));
        s.rest.remove_prefix(10);
    } else {
        if (s.peek() == '@' && !s.source_route()) return false;
        if (!s.mailbox(a)) return false;
    }
    if (brackets && !s.eat('>')) return false;
    if (!s.empty() && s.peek() != ' ') return false;
    raw.assign(start.substr(0, start.size() - s.rest.size()));
    return valid_utf8(raw);
}

// " KEYWORD=value KEYWORD ..." to the end of the line.
bool parameters(Scanner& s, std::vector<Parameter>& out) {
    while (!s.empty()) {
        if (s.run([](char c) { return c == ' '; }).empty()) return false;
        if (s.empty()) return true;  // RFC 5321 4.1.1: trailing white space is tolerated
        if (out.size() == most_parameters) return false;
        Parameter p;
        for (char c : s.run([](char c) { return letter(c) || digit(c) || c == '-'; })) p.keyword += upper(c);
        if (p.keyword.empty() || p.keyword.front() == '-') return false;
        if (s.eat('=')) {
            p.has_value = true;
            p.value.assign(s.run([&](char c) { return (c > 32 && c < 127 && c != '=') || (s.utf8 && high(c)); }));
            if (p.value.empty() || !valid_utf8(p.value)) return false;
        }
        if (std::ranges::find(out, p.keyword, &Parameter::keyword) != out.end()) return false;
        out.push_back(std::move(p));
    }
    return true;
}

bool printable(std::string_view text, bool utf8) {
    return valid_utf8(text) &&
           std::ranges::all_of(text, [&](char c) { return (c >= 32 && c < 127) || (utf8 && high(c)); });
}

// What a keyword may say: wrong syntax, unknown, or it was understood.
enum class Verdict { syntax, unknown, fine };
Verdict verdict(bool fine) { return fine ? Verdict::fine : Verdict::syntax; }

Verdict size_parameter(const Parameter& p, Sender& s) {
    // RFC 1870 6: up to 20 digits. What does not fit into 64 bits is surely too much.
    if (p.value.empty() || p.value.size() > 20 || !std::ranges::all_of(p.value, digit)) return Verdict::syntax;
    std::uint64_t n = 0;
    const auto [end, error] = std::from_chars(p.value.data(), p.value.data() + p.value.size(), n);
    s.size = error == std::errc::result_out_of_range ? UINT64_MAX : n;
    return Verdict::fine;
}

// RFC 4954 5: what is encoded is a mailbox without brackets, or the two characters "<>".
bool auth_parameter(std::string_view value, Sender& s) {
    const auto who = value == "<>" ? std::string(value) : xtext_decode(value).value_or("");
    const auto mailbox = Address::parse(who, s.smtputf8);
    if (who == "<>") s.auth = "";
    else if (mailbox && !mailbox->domain.empty()) s.auth = who;
    return s.auth.has_value();
}

Verdict mail_parameter(const Parameter& p, const Extensions& offered, Sender& s) {
    if (p.keyword == "SIZE" && offered.size) return size_parameter(p, s);
    const bool binary_mime = offered.binary_mime && offered.chunking;
    if (p.keyword == "BODY" && (offered.eight_bit_mime || binary_mime)) {
        if (same_text(p.value, "7BIT")) return Verdict::fine;
        if (same_text(p.value, "8BITMIME") && offered.eight_bit_mime)
            return s.body = BodyType::eight_bit_mime, Verdict::fine;
        if (same_text(p.value, "BINARYMIME") && binary_mime) return s.body = BodyType::binary_mime, Verdict::fine;
        return Verdict::syntax;
    }
    if (p.keyword == "SMTPUTF8" && offered.smtputf8) return verdict(!p.has_value);  // set already
    if (p.keyword == "RET" && offered.dsn) {
        s.ret = same_text(p.value, "FULL")   ? Return::full
                : same_text(p.value, "HDRS") ? Return::headers
                                             : Return::unsaid;
        return verdict(s.ret != Return::unsaid);
    }
    if (p.keyword == "ENVID" && offered.dsn) {
        if (!p.has_value || p.value.size() > longest_envid) return Verdict::syntax;
        s.envid = xtext_decode(p.value);
        return verdict(s.envid && printable(*s.envid, false));
    }
    if (p.keyword == "AUTH" && offered.auth) return verdict(p.has_value && auth_parameter(p.value, s));
    return Verdict::unknown;
}

bool notify_parameter(std::string_view value, Notify& n) {
    if (same_text(value, "NEVER")) return n.never = true;
    for (;;) {
        const auto comma = std::min(value.find(','), value.size());
        const auto word = value.substr(0, comma);
        bool* which = same_text(word, "SUCCESS")   ? &n.success
                      : same_text(word, "FAILURE") ? &n.failure
                      : same_text(word, "DELAY")   ? &n.delay
                                                   : nullptr;
        if (!which || *which) return false;
        *which = true;
        if (comma == value.size()) return true;
        value.remove_prefix(comma + 1);
    }
}

bool orcpt_parameter(const Parameter& p, bool utf8, Recipient& r) {
    const auto semicolon = p.value.find(';');
    if (p.value.size() > longest_orcpt || semicolon == p.value.npos || semicolon == 0) return false;
    const auto type = std::string_view(p.value).substr(0, semicolon);
    if (!std::ranges::all_of(type, atext)) return false;
    // RFC 6533 3: the type "utf-8" may also be written as it is.
    const auto value = std::string_view(p.value).substr(semicolon + 1);
    const bool as_it_is = same_text(type, "utf-8") && std::ranges::any_of(value, high);
    const auto address = as_it_is ? std::string(value) : xtext_decode(value);
    if (!address || address->empty() || !printable(*address, utf8)) return false;
    r.orcpt = OriginalRecipient{std::string(type), *address};
    return true;
}

Verdict rcpt_parameter(const Parameter& p, const Extensions& offered, bool utf8, Recipient& r) {
    if (p.keyword == "NOTIFY" && offered.dsn) return verdict(p.has_value && notify_parameter(p.value, r.notify));
    if (p.keyword == "ORCPT" && offered.dsn) return verdict(p.has_value && orcpt_parameter(p, utf8, r));
    return Verdict::unknown;
}

// The argument's "FROM:" or "TO:" and what may stand between it and the path.
bool keyword(Scanner& s, std::string_view word, const Leniency& lenient) {
    if (!same_text(s.rest.substr(0, word.size()), word)) return false;
    s.rest.remove_prefix(word.size());
    if (lenient.blank_after_colon) s.run([](char c) { return c == ' '; });
    return true;
}

// Whether the parameters, read naively, hold SMTPUTF8: it decides how the rest is read.
bool announces_utf8(std::string_view argument) {
    std::size_t at = 0;
    while ((at = argument.find(' ', at)) != argument.npos) {
        ++at;
        const auto end = std::min(argument.find(' ', at), argument.size());
        if (same_text(argument.substr(at, end - at), "SMTPUTF8")) return true;
    }
    return false;
}

bool any_high(std::string_view text) { return std::ranges::any_of(text, high); }

template <class Parse>
bool all_parameters(std::vector<Parameter>& all, Reply& refusal, const std::vector<std::string>& own, Parse parse) {
    for (const auto& p : all) {
        const auto result = parse(p);
        if (result == Verdict::fine) continue;
        if (result == Verdict::unknown && std::ranges::find(own, p.keyword) != own.end()) continue;
        refusal = result == Verdict::unknown ? Reply{555, "5.5.4", "Unknown parameter " + p.keyword}
                                             : Reply{501, "5.5.4", "Syntax error in parameter " + p.keyword};
        return false;
    }
    return true;
}

const Reply needs_smtputf8{553, "5.6.7", "UTF-8 in an address needs SMTPUTF8"};
const Reply bad_parameters{501, "5.5.4", "Syntax error in parameters"};

}  // namespace

bool same_text(std::string_view a, std::string_view b) {
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return upper(x) == upper(y); });
}

std::string lower_case(std::string_view text) {
    std::string out(text);
    for (auto& c : out)
        if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
    return out;
}

bool same_mailbox(const Address& a, const Address& b) {
    if (!same_text(a.domain, b.domain)) return false;
    const auto x = a.unquoted(), y = b.unquoted();
    return x == y || (postmaster(x) && postmaster(y));
}

std::string Address::str() const { return domain.empty() ? local : local + '@' + domain; }

std::string Address::unquoted() const {
    if (local.size() < 2 || local.front() != '"') return local;
    std::string out;
    for (std::size_t i = 1; i + 1 < local.size(); ++i) {
        if (local[i] == '\\') ++i;
        out += local[i];
    }
    return out;
}

bool Address::utf8() const { return any_high(local) || any_high(domain); }

std::optional<Address> Address::parse(std::string_view text, bool utf8) {
    Address a;
    if (text.empty()) return a;
    if (postmaster(text)) {
        a.local.assign(text);
        return a;
    }
    Scanner s{text, utf8};
    if (!valid_utf8(text) || !s.mailbox(a) || !s.empty()) return std::nullopt;
    return a;
}

Sender::Sender(std::string_view mailbox) {
    auto a = Address::parse(mailbox);
    if (!a || (!a->null() && a->domain.empty()))
        throw std::invalid_argument("Sender: not a mailbox: " + std::string(mailbox));
    static_cast<Address&>(*this) = std::move(*a);
    raw = '<' + str() + '>';
    smtputf8 = utf8();
}

Recipient::Recipient(std::string_view mailbox) {
    auto a = Address::parse(mailbox);
    if (!a || a->null()) throw std::invalid_argument("Recipient: not a mailbox: " + std::string(mailbox));
    static_cast<Address&>(*this) = std::move(*a);
    raw = '<' + str() + '>';
}

std::string Notify::str() const {
    if (never) return "NEVER";
    std::string out;
    for (auto [set, name] : {std::pair{success, "SUCCESS"}, std::pair{failure, "FAILURE"}, std::pair{delay, "DELAY"}})
        if (set) out += (out.empty() ? "" : ",") + std::string(name);
    return out;
}

std::optional<Sender> parse_mail(std::string_view argument, const Extensions& offered, const Leniency& lenient,
                                 Reply& refusal, const std::vector<std::string>& own) {
    Sender sender;
    sender.smtputf8 = offered.smtputf8 && announces_utf8(argument);
    if (any_high(argument) && !sender.smtputf8) return refusal = needs_smtputf8, std::nullopt;
    Scanner s{argument, sender.smtputf8};
    if (!keyword(s, "FROM:", lenient)) return refusal = {501, "5.5.4", "Syntax: MAIL FROM:<address>"}, std::nullopt;
    if (!path(s, Path::sender, lenient, sender, sender.raw))
        return refusal = {501, "5.1.7", "Bad sender address syntax"}, std::nullopt;
    if (!parameters(s, sender.parameters)) return refusal = bad_parameters, std::nullopt;
    // What looked like the parameter may have stood inside quotes.
    sender.smtputf8 &= std::ranges::find(sender.parameters, "SMTPUTF8", &Parameter::keyword) != sender.parameters.end();
    if (any_high(argument) && !sender.smtputf8) return refusal = needs_smtputf8, std::nullopt;
    if (!all_parameters(sender.parameters, refusal, own, [&](auto& p) { return mail_parameter(p, offered, sender); }))
        return std::nullopt;
    return sender;
}

std::optional<Recipient> parse_rcpt(std::string_view argument, const Extensions& offered, bool utf8,
                                    const Leniency& lenient, Reply& refusal, const std::vector<std::string>& own) {
    Recipient recipient;
    if (any_high(argument) && !utf8) return refusal = needs_smtputf8, std::nullopt;
    Scanner s{argument, utf8};
    if (!keyword(s, "TO:", lenient)) return refusal = {501, "5.5.4", "Syntax: RCPT TO:<address>"}, std::nullopt;
    if (!path(s, Path::recipient, lenient, recipient, recipient.raw))
        return refusal = {501, "5.1.3", "Bad recipient address syntax"}, std::nullopt;
    if (!parameters(s, recipient.parameters)) return refusal = bad_parameters, std::nullopt;
    if (!all_parameters(recipient.parameters, refusal, own,
                        [&](auto& p) { return rcpt_parameter(p, offered, utf8, recipient); }))
        return std::nullopt;
    return recipient;
}

std::optional<std::string> xtext_decode(std::string_view text) {
    auto hex = [](char c) { return digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '+') {
            if (text[i] < 33 || text[i] > 126 || text[i] == '=') return std::nullopt;
            out += text[i];
            continue;
        }
        if (i + 2 >= text.size() || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0) return std::nullopt;
        out += char(hex(text[i + 1]) * 16 + hex(text[i + 2]));
        i += 2;
    }
    return out;
}

std::string xtext_encode(std::string_view text) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        const auto u = static_cast<unsigned char>(c);
        if (u >= 33 && u <= 126 && c != '+' && c != '=') {
            out += c;
        } else {
            out += '+';
            out += digits[u >> 4];
            out += digits[u & 15];
        }
    }
    return out;
}

}  // namespace Net::SMTP
