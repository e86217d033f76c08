// codec -- what stores keep of mail, into columns and back: what was kept comes back, and nonsense is nothing bad.
#include "../../Relay/StoreCodec.hpp"

#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

bool same_reply(const Reply& a, const Reply& b) { return a == b; }

void check_reply(std::string_view kept) {
    const auto reply = decode_reply(kept);
    fuzz::require(reply.code == 0 || (reply.code >= 200 && reply.code <= 599), "no other code is read", reply.code);
    fuzz::require(reply.status.empty() || valid_status(reply.status), "no other status is read", reply.status);
    if (reply.code == 0) return fuzz::require(same_reply(reply, {0, "", ""}), "what can't be read is nothing", kept);
    const auto again = decode_reply(encode_reply(reply));
    fuzz::same(again.code, reply.code, "a code is kept");
    fuzz::same(again.status, reply.status, "a status is kept");
    fuzz::require(reply.text.starts_with(again.text), "a text is kept, or cut", reply.text, again.text);
    fuzz::require(again.text.size() >= std::min<std::size_t>(reply.text.size(), 1021), "and cut at 1 KiB", again.text);
    fuzz::require(again.text.size() <= 1024, "at most 1 KiB is kept", again.text);
    if (valid_utf8(reply.text)) fuzz::require(valid_utf8(again.text), "no character is cut in two", again.text);
}

void check_sender(std::string local, std::string domain, int flags, const std::optional<std::string>& envid) {
    const auto from = stored_sender(local, domain, flags, envid, envid);
    fuzz::same(from.local, local, "who it was is kept");
    fuzz::same(from.domain, domain, "who it was is kept");
    fuzz::require(from.envid == envid && from.auth == envid, "what was said with it is kept");
    const auto again = stored_sender(local, domain, sender_flags(from), envid, envid);
    fuzz::require(again.body == from.body && again.smtputf8 == from.smtputf8 && again.ret == from.ret,
                  "what was promised is kept", flags);
}

void check_recipient(std::string local, std::string domain, int notify, const std::optional<std::string>& orcpt) {
    const auto to = stored_recipient(std::uint32_t(notify), local, domain, notify, orcpt);
    fuzz::same(to.id, std::uint64_t(std::uint32_t(notify)) + 1, "its id is its number and one");
    const auto again = stored_recipient(0, local, domain, notify_flags(to.notify), orcpt_text(to));
    fuzz::same(again.notify.str(), to.notify.str(), "what it wants to hear is kept");
    fuzz::same(again.orcpt.has_value(), to.orcpt.has_value(), "whom it was for is kept");
    if (!to.orcpt) return;
    fuzz::same(again.orcpt->type, to.orcpt->type, "whom it was for is kept");
    fuzz::same(again.orcpt->address, to.orcpt->address, "whom it was for is kept");
}

}  // namespace

void fuzz::run(Input input) {
    const int flags = input.octet() | input.octet() << 8;
    const bool any = input.flag();
    const auto all = input.rest();
    check_reply(all);

    const auto host = kept_host(all);
    require(all.starts_with(host) && host.size() <= 512 && host.size() >= std::min<std::size_t>(all.size(), 509),
            "of a host's name 512 octets are kept", host);

    const std::string local(input.until('\n')), domain(input.until('\n'));
    const std::optional<std::string> said = any ? std::optional(std::string(input.until('\n'))) : std::nullopt;
    check_sender(local, domain, flags, said);
    check_recipient(local, domain, flags, said);

    Reply reply{flags % 700, said.value_or(""), std::string(input.rest())};
    const auto back = decode_reply(encode_reply(reply));
    if (reply.code < 200 || reply.code > 599) return require(back.code == 0, "what is no reply is none", back.code);
    same(back.code, reply.code, "the code comes back");
    same(back.status, valid_status(reply.status) ? reply.status : "", "a status comes back that is one");
    require(reply.text.starts_with(back.text), "the text comes back", back.text);
}
