#include "StoreCodec.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_id = 255;
constexpr std::size_t longest_text = 1024;
constexpr std::size_t longest_host = 512;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

bool visible(char c) { return c > ' ' && c < '\x7f'; }

// The longest front of at most `most` octets that does not end inside a UTF-8 sequence.
std::string_view cut(std::string_view text, std::size_t most) {
    if (text.size() <= most) return text;
    auto end = most;
    for (int i = 0; i < 3 && end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++i) --end;
    return text.substr(0, end);
}

}  // namespace

void check_queued(const QueuedMail& mail) {
    require(!mail.id.empty() && mail.id.size() <= longest_id && std::ranges::all_of(mail.id, visible),
            "the id of queued mail must be 1 to 255 octets of printable ASCII without blanks");
    require(!mail.to.empty(), "queued mail must have a recipient");
    require(!mail.text.sunk(), "a message that went into a sink can't be queued");
    require(mail.head.empty() || mail.head.ends_with("\r\n"), "the head of queued mail must end in CRLF");
}

std::string queue_domain(const Address& address) { return lower_case(address.domain); }

QueueTime honest_due(QueueTime due, QueueTime now) { return due != never_due && due > too_far(now) ? now : due; }

int sender_flags(const Sender& from) { return int(from.body) | int(from.smtputf8) << 2 | int(from.ret) << 3; }

Sender stored_sender(std::string local, std::string domain, int flags, std::optional<std::string> envid,
                     std::optional<std::string> auth) {
    Sender from;
    from.local = std::move(local);
    from.domain = std::move(domain);
    from.raw = '<' + from.str() + '>';
    from.body = BodyType(std::min(flags & 3, int(BodyType::binary_mime)));
    from.smtputf8 = flags >> 2 & 1;
    from.ret = Return(std::min(flags >> 3 & 3, int(Return::headers)));
    from.envid = std::move(envid);
    from.auth = std::move(auth);
    return from;
}

int notify_flags(const Notify& notify) {
    return int(notify.never) | int(notify.success) << 1 | int(notify.failure) << 2 | int(notify.delay) << 3;
}

std::optional<std::string> orcpt_text(const Recipient& to) {
    if (!to.orcpt) return {};
    return to.orcpt->type + ';' + to.orcpt->address;
}

Recipient stored_recipient(std::uint32_t number, std::string local, std::string domain, int notify,
                           const std::optional<std::string>& orcpt) {
    Recipient to;
    to.local = std::move(local);
    to.domain = std::move(domain);
    to.raw = '<' + to.str() + '>';
    to.notify = {.never = (notify & 1) != 0,
                 .success = (notify & 2) != 0,
                 .failure = (notify & 4) != 0,
                 .delay = (notify & 8) != 0};
    if (orcpt) {
        const auto end = std::min(orcpt->find(';'), orcpt->size());
        const auto address = end < orcpt->size() ? orcpt->substr(end + 1) : std::string();
        to.orcpt = OriginalRecipient{orcpt->substr(0, end), address};
    }
    to.id = std::uint64_t(number) + 1;
    return to;
}

// "550 5.1.1", a line end, the text.
std::string encode_reply(const Reply& reply) {
    auto out = std::to_string(reply.code) + ' ';
    if (valid_status(reply.status)) out += reply.status;
    out += '\n';
    out += cut(reply.text, longest_text);
    return out;
}

Reply decode_reply(std::string_view text) {
    const Reply nothing{0, "", ""};
    const auto blank = text.find(' '), line = text.find('\n');
    if (blank == text.npos || line == text.npos || line < blank) return nothing;
    Reply reply{0, std::string(text.substr(blank + 1, line - blank - 1)), std::string(text.substr(line + 1))};
    const char* const end = text.data() + blank;
    const auto code = std::from_chars(text.data(), end, reply.code);
    if (code.ec != std::errc{} || code.ptr != end || reply.code < 200 || reply.code > 599) return nothing;
    if (!reply.status.empty() && !valid_status(reply.status)) return nothing;
    return reply;
}

std::string_view kept_host(std::string_view host) { return cut(host, longest_host); }

StoreError no_room(const std::string& what) { return {what, {452, "4.3.1", "Insufficient system storage"}}; }
StoreError no_store(const std::string& what) { return {what, {451, "4.3.0", "The queue can't take mail now"}}; }

StoreError store_error(const std::string& what, int error) {
    const auto text = what + ": " + std::generic_category().message(error);
    return error == ENOSPC || error == EDQUOT || error == EFBIG ? no_room(text) : no_store(text);
}

std::string octets_of(const Message& message) {
    std::string out(std::size_t(message.size()), '\0');
    try {
        for (std::size_t done = 0; done < out.size();) {
            const auto n = message.read(done, out.data() + done, out.size() - done);
            if (n == 0) throw no_store("a message is shorter than it was");
            done += n;
        }
    } catch (const std::system_error& e) {
        throw store_error(e.what(), e.code().value());
    }
    return out;
}

}  // namespace Net::SMTP
