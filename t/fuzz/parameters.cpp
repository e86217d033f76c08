// parameters -- the arguments of MAIL and RCPT: what is understood can be said again and means the same.
#include <algorithm>
#include <charconv>

#include "../../Server/Address.hpp"
#include "../../Server/Reply.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

using fuzz::require, fuzz::same;

bool plain(std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c < 32 || c == 127; });
}

void check_refusal(const Reply& refusal) {
    require(refusal.code == 501 || refusal.code == 553 || refusal.code == 555, "a refusal says what is wrong",
            refusal.code);
    require(valid_status(refusal.status) && refusal.status[0] == '5', "and so does its status", refusal.status);
    require(plain(refusal.text) && valid_utf8(refusal.text), "it repeats nothing that is not a word", refusal.text);
}

// As a client would write it, without what is not kept.
std::string written(const Sender& from) {
    std::string out = "FROM:<" + from.str() + '>';
    for (const auto& p : from.parameters) out += ' ' + p.keyword + (p.has_value ? '=' + p.value : "");
    return out;
}
std::string written(const Recipient& to) {
    std::string out = "TO:<" + to.str() + '>';
    for (const auto& p : to.parameters) out += ' ' + p.keyword + (p.has_value ? '=' + p.value : "");
    return out;
}

bool has(const std::vector<Parameter>& all, std::string_view keyword) {
    return std::ranges::find(all, keyword, &Parameter::keyword) != all.end();
}

void check_common(std::string_view argument, const Address& address, const std::string& raw,
                  const std::vector<Parameter>& parameters) {
    require(argument.find(raw) != argument.npos, "the path is kept as it was sent", raw);
    require(plain(address.str()) && plain(raw), "no control is in an address", raw);
    require(valid_utf8(address.str()), "what is above 127 is UTF-8", address.str());
    require(Address::parse(address.str()).has_value(), "an address is one by itself too", address.str());
    require(address.local.size() <= 64 && address.domain.size() <= 255, "its parts have limits", address.str());
    require(parameters.size() <= 32, "so have parameters");
    for (const auto& p : parameters) {
        require(!p.keyword.empty() && plain(p.value) && p.value.find(' ') == p.value.npos, "a value is a word",
                p.value);
        same(std::ranges::count(parameters, p.keyword, &Parameter::keyword), std::ptrdiff_t(1), "each is there once");
    }
}

void check_mail(std::string_view argument, const Extensions& offered, const Leniency& lenient) {
    Reply refusal;
    const auto from = parse_mail(argument, offered, lenient, refusal, {"XOWN"});
    if (!from) return check_refusal(refusal);
    check_common(argument, *from, from->raw, from->parameters);
    const auto& all = from->parameters;
    same(from->size.has_value(), has(all, "SIZE"), "a size is known where it was said");
    same(from->envid.has_value(), has(all, "ENVID"), "an id is known where it was said");
    same(from->auth.has_value(), has(all, "AUTH"), "a submitter is known where it was said");
    same(from->ret != Return::unsaid, has(all, "RET"), "a wish is known where it was said");
    same(from->smtputf8, has(all, "SMTPUTF8"), "UTF-8 is promised where it was said");
    require(from->smtputf8 || !from->utf8(), "no UTF-8 without SMTPUTF8", from->str());
    require(offered.dsn || !(from->envid || has(all, "RET")), "what is not offered is not taken");
    require(offered.smtputf8 || !from->smtputf8, "what is not offered is not taken");
    require(offered.auth || !from->auth, "what is not offered is not taken");
    require((offered.binary_mime && offered.chunking) || from->body != BodyType::binary_mime, "nor binary texts");
    if (from->auth && !from->auth->empty()) require(Address::parse(*from->auth).has_value(), "a mailbox", *from->auth);
    if (from->envid) require(plain(*from->envid), "an id is printable", *from->envid);

    Reply again;
    const auto same_again = parse_mail(written(*from), offered, {}, again, {"XOWN"});
    require(same_again.has_value(), "what was understood can be said again", written(*from), again.text);
    same(same_again->str(), from->str(), "and is the same");
    require(same_again->size == from->size && same_again->body == from->body && same_again->ret == from->ret &&
                same_again->envid == from->envid && same_again->auth == from->auth,
            "with all that was said", written(*from));
}

void check_rcpt(std::string_view argument, const Extensions& offered, bool utf8, const Leniency& lenient) {
    Reply refusal;
    const auto to = parse_rcpt(argument, offered, utf8, lenient, refusal, {"XOWN"});
    if (!to) return check_refusal(refusal);
    check_common(argument, *to, to->raw, to->parameters);
    require(!to->null(), "a recipient is somebody");
    const auto& all = to->parameters;
    same(to->notify.said(), has(all, "NOTIFY"), "a wish is known where it was said");
    same(to->orcpt.has_value(), has(all, "ORCPT"), "whom it was for is known where it was said");
    require(offered.dsn || !(to->notify.said() || to->orcpt), "what is not offered is not taken");
    require(utf8 || !to->utf8(), "no UTF-8 without SMTPUTF8", to->str());
    const auto& n = to->notify;
    require(!n.never || !(n.success || n.failure || n.delay), "NEVER stands alone", n.str());
    if (to->orcpt)
        require(!to->orcpt->address.empty() && plain(to->orcpt->address) && valid_utf8(to->orcpt->address),
                "whom it was for is printable", to->orcpt->address);

    Reply again;
    const auto same_again = parse_rcpt(written(*to), offered, utf8, {}, again, {"XOWN"});
    require(same_again.has_value(), "what was understood can be said again", written(*to), again.text);
    same(same_again->str(), to->str(), "and is the same");
    same(same_again->notify.str(), to->notify.str(), "with all that was said");
}

}  // namespace

void fuzz::run(Input input) {
    const auto offers = input.octet(), how = input.octet();
    Extensions offered;
    offered.smtputf8 = offers & 1;
    offered.dsn = offers & 2;
    offered.binary_mime = offers & 4;
    offered.auth = offers & 8;
    offered.size = !(offers & 16);
    offered.eight_bit_mime = !(offers & 32);
    offered.chunking = !(offers & 64);
    const Leniency lenient{.missing_brackets = (how & 1) != 0, .blank_after_colon = (how & 2) != 0};
    const auto argument = input.rest();
    check_mail(argument, offered, lenient);
    check_rcpt(argument, offered, how & 4, lenient);
}
