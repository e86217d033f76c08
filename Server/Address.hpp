// Address -- mailboxes and paths of the envelope, and the ESMTP parameters that come with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Reply.hpp"

namespace Net::SMTP {

// What broken clients may be forgiven, each by its name. The default forgives nothing.
struct Leniency {
    bool missing_brackets = false;   // MAIL FROM:a@b
    bool blank_after_colon = false;  // MAIL FROM: <a@b>
    bool lf_commands = false;        // a command line that ends in LF alone
};

// A mailbox. `local` is kept as it was written, with its quotes and its case (RFC 5321 2.4: nobody but the
// final host may interpret it); `domain` too, it may be a literal such as "[192.0.2.1]" or "[IPv6:2001:db8::1]".
// Both are empty in the null path <>; only the domain is in <postmaster>.
struct Address {
    std::string local;
    std::string domain;

    // "local@domain" without brackets; "" for the null path.
    std::string str() const;
    // The local part without quotes and backslashes: what "a\"b" means.
    std::string unquoted() const;
    bool null() const { return local.empty() && domain.empty(); }
    // Whether any octet is above 127, so that it may only travel with SMTPUTF8.
    bool utf8() const;

    // Reads a mailbox without brackets, or "" or "postmaster". nullopt when the grammar of RFC 5321 4.1.2 (with
    // RFC 6531's UTF-8, if allowed) does not know it, or a part is longer than 64 (local) or 255 (domain) octets.
    static std::optional<Address> parse(std::string_view text, bool utf8 = true);
};

// The domains are compared without case, the local parts exactly, but for "postmaster" (RFC 5321 4.1.1.3).
bool same_mailbox(const Address& a, const Address& b);
// ASCII letters without case; and in lower case.
bool same_text(std::string_view a, std::string_view b);
std::string lower_case(std::string_view text);

// One "KEYWORD=value" behind a path, as it was sent; the keyword in capitals.
struct Parameter {
    std::string keyword;
    std::string value;
    bool has_value = false;
};

enum class BodyType { seven_bit, eight_bit_mime, binary_mime };  // RFC 6152, RFC 3030
enum class Return { unsaid, full, headers };                     // RFC 3461 RET

// The address and parameters of MAIL. As a default it is unset; after MAIL FROM:<> it is null, not unset.
struct Sender : Address {
    std::string raw;  // the path as it was sent, with brackets and source route: "<@hub:a@b>"
    std::optional<std::uint64_t> size;
    BodyType body = BodyType::seven_bit;
    bool smtputf8 = false;
    Return ret = Return::unsaid;
    std::optional<std::string> envid;  // decoded
    // RFC 4954 5: who has submitted it, decoded; "" for <>, which is what it is made where whoever says it is not
    // trusted with that. Unset: nothing was said.
    std::optional<std::string> auth;
    std::vector<Parameter> parameters;

    Sender() = default;
    // A sender of your own: "a@b", or "" for the null sender. std::invalid_argument names what can't be parsed.
    explicit Sender(std::string_view mailbox);
    bool unset() const { return raw.empty(); }
};

struct Notify {  // RFC 3461 4.1; nothing set: the client did not say
    bool never = false, success = false, failure = false, delay = false;
    bool said() const { return never || success || failure || delay; }
    std::string str() const;  // "SUCCESS,FAILURE", "NEVER", ""
};

struct OriginalRecipient {
    std::string type;     // "rfc822"
    std::string address;  // decoded
};

// The address and parameters of one RCPT.
struct Recipient : Address {
    std::string raw;
    Notify notify;
    std::optional<OriginalRecipient> orcpt;
    std::vector<Parameter> parameters;

    Recipient() = default;
    // A recipient of your own: "a@b" or "postmaster". std::invalid_argument names what can't be parsed.
    explicit Recipient(std::string_view mailbox);

    // Which recipient of the session this is, so that a verdict knows whom it is about: a copy, even one with another
    // address, still speaks for the one it was copied from. 0: for none.
    std::uint64_t id = 0;
};

// What a session offers in EHLO. A parameter of something not offered is an unknown one: 555.
struct Extensions {
    bool pipelining = true;             // RFC 2920
    bool size = true;                   // RFC 1870
    bool eight_bit_mime = true;         // RFC 6152
    bool chunking = true;               // RFC 3030
    bool enhanced_status_codes = true;  // RFC 2034
    // Promises that whoever takes the mail must keep; so they are the program's choice:
    bool smtputf8 = false;     // RFC 6531: the next hop must know it too
    bool dsn = false;          // RFC 3461: somebody must write the notifications
    bool binary_mime = false;  // RFC 3030, needs chunking; the next hop must know it too
    bool auth = false;         // RFC 4954; in a session it follows from Options::auth
};

// Read what follows "MAIL " and "RCPT ". The address or the refusal: 501 for syntax, 555 for an unknown parameter,
// 553 5.6.7 for UTF-8 without SMTPUTF8. Nothing is kept of what was refused. `utf8` says whether the
// transaction has SMTPUTF8, `own` which further keywords there are, in capital letters; they are only kept.
std::optional<Sender> parse_mail(std::string_view argument, const Extensions& offered, const Leniency&, Reply& refusal,
                                 const std::vector<std::string>& own = {});
std::optional<Recipient> parse_rcpt(std::string_view argument, const Extensions& offered, bool utf8, const Leniency&,
                                    Reply& refusal, const std::vector<std::string>& own = {});

// xtext of RFC 3461 4. decode: nullopt when it is not xtext.
std::optional<std::string> xtext_decode(std::string_view);
std::string xtext_encode(std::string_view);

}  // namespace Net::SMTP
