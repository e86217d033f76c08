// address -- mailboxes: what is let in is one by a second grammar too, and means the same wherever it goes.
#include "../../Server/Address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <vector>

#include "../../Server/Utf8Address.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool high(char c) { return static_cast<unsigned char>(c) > 127; }

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> out{""};
    for (const char c : text) {
        if (c == separator) out.emplace_back();
        else out.back() += c;
    }
    return out;
}

// RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3, in the words of somebody else.
bool word(const std::string& text, std::string_view more) {
    return !text.empty() &&
           std::ranges::all_of(text, [&](char c) { return letter(c) || high(c) || more.find(c) != more.npos; });
}

bool quoted(std::string_view text) {
    for (text.remove_prefix(1), text.remove_suffix(1); !text.empty(); text.remove_prefix(1)) {
        if (text.front() == '"') return false;
        if (text.front() == '\\') {
            text.remove_prefix(1);
            if (text.empty() || high(text.front())) return false;
        }
        if ((text.front() < 32 && !high(text.front())) || text.front() == 127) return false;
    }
    return true;
}

bool local(std::string_view text) {
    if (text.size() > 64) return false;
    if (text.size() > 1 && text.front() == '"' && text.back() == '"') return quoted(text);
    return std::ranges::all_of(split(text, '.'), [](auto& atom) { return word(atom, "!#$%&'*+-/=?^_`{|}~"); });
}

bool numbers(const std::string& text) {
    const auto parts = split(text, '.');
    const auto number = [](const std::string& part) {
        return !part.empty() && part.size() < 4 && part.find_first_not_of("0123456789") == part.npos &&
               std::stoi(part) < 256;
    };
    return parts.size() == 4 && std::ranges::all_of(parts, number);
}

bool groups(std::string text) {
    const auto all = split(text, ':');
    if (const auto last = all.back(); last.find('.') != last.npos) {
        if (!numbers(last)) return false;
        text.replace(text.size() - last.size(), last.size(), "1:1");
    }
    in6_addr binary;
    if (inet_pton(AF_INET6, text.c_str(), &binary) != 1) return false;
    // "::" is two groups at least.
    const auto written = split(text, ':');
    const auto some = std::ranges::count_if(written, [](auto& group) { return !group.empty(); });
    return text.find("::") == text.npos ? some == 8 : some <= 6;
}

bool domain(const std::string& text) {
    if (text.size() > 255) return false;
    if (text.size() > 1 && text.front() == '[' && text.back() == ']') {
        const auto inside = text.substr(1, text.size() - 2);
        if (std::ranges::any_of(inside, [](char c) { return c < 33 || c > 126; })) return false;
        return numbers(inside) || (same_text(inside.substr(0, 5), "IPv6:") && groups(inside.substr(5)));
    }
    const auto label = [](const std::string& one) {
        return word(one, "-") && one.front() != '-' && one.back() != '-' &&
               (one.size() < 64 || std::ranges::any_of(one, high));
    };
    return std::ranges::all_of(split(text, '.'), label);
}

bool reference(std::string_view text, bool utf8) {
    if (text.empty() || same_text(text, "postmaster")) return true;
    if (!valid_utf8(text) || (!utf8 && std::ranges::any_of(text, high))) return false;
    // The '@' that parts it is the last one outside of brackets; none can be in a domain.
    const auto at = text.rfind('@');
    return at != text.npos && local(text.substr(0, at)) && domain(std::string(text.substr(at + 1)));
}

void check_encodings(std::string_view text) {
    using fuzz::require, fuzz::same;
    const auto xtext = xtext_encode(text);
    same(xtext_decode(xtext).value_or("no"), text, "xtext means what was encoded");
    if (const auto decoded = xtext_decode(text))
        require(xtext_decode(xtext_encode(*decoded)) == decoded, "and what was decoded can be encoded", text);
    for (const char c : xtext) require(c > 32 && c < 127 && c != '=', "xtext is plain", xtext);

    const auto encoded = utf8_address_encode(text);
    for (const char c : encoded) require(c > 32 && c < 127, "an address in ASCII is that", encoded);
    if (valid_utf8(text) && std::ranges::none_of(text, [](unsigned char c) { return c < 32 || c == 127; }))
        same(utf8_address_decode(encoded), text, "an address in ASCII means the same");
    const auto decoded = utf8_address_decode(text);
    require(!valid_utf8(text) || valid_utf8(decoded), "what is decoded is UTF-8", decoded);
    const auto high_too = utf8_address_encode(text, true, 100);
    require(high_too.size() <= 100 && valid_utf8(high_too), "a limit is kept, and cuts no character", high_too);
}

}  // namespace

void fuzz::run(Input input) {
    const bool utf8 = input.flag();
    const auto text = input.rest();
    const auto address = Address::parse(text, utf8);
    require(address.has_value() == reference(text, utf8), "what is a mailbox is one, and nothing else", text,
            address.has_value());
    check_encodings(text);
    if (!address) return;

    same(address->str(), text, "it is kept as it was written");
    require(Address::parse(address->str(), utf8).has_value(), "and is one still");
    require(!address->utf8() || utf8, "there is no UTF-8 where it is not allowed");
    require(same_mailbox(*address, *address), "it is the same as itself");
    const auto plain = address->unquoted();
    require(plain.size() <= address->local.size(), "quotes only go", plain);
    if (address->null() || address->domain.empty()) return;
    same(Recipient(text).str(), text, "a program may name it too");
    same(Sender(text).raw, '<' + std::string(text) + '>', "a program may name it too");
}
