// reply -- replies both ways: whatever a program says is one on the wire; whatever a next hop says is read as one, or
// ends the session with it.
#include <algorithm>
#include <optional>

#include "../../Relay/Session.hpp"
#include "replies.hpp"
#include "wire.hpp"

using namespace Net::SMTP;
using fuzz::require, fuzz::same;

namespace {

// ---- ours ----

void check_said(int code, const std::string& status, const std::string& text, bool statuses) {
    const Reply reply{code, status, text};
    std::string wire = "before";
    reply.append_to(wire, statuses);
    require(wire.starts_with("before"), "a reply is appended");
    std::string_view rest = std::string_view(wire).substr(6);
    const auto read = fuzz::take_reply(rest);
    require(rest.empty(), "a reply is one reply", rest);
    same(read.code, code >= 200 && code <= 599 ? code : 451, "its code is the code, or 451");
    const bool fits = valid_status(status) && status[0] == char('0' + read.code / 100) && read.code == code;
    for (const auto& line : read.lines) {
        require(valid_utf8(line), "a line is UTF-8", line);
        if (fits && statuses) require(line.starts_with(status + ' '), "the status is in each line", line);
    }
}

// ---- theirs ----

class Hop : public fuzz::Peer {
public:
    Hop(std::string_view first, std::string_view says, fuzz::Chance chance)
        : first_(first), left_(says), chance_(chance), longest_(1 + chance_.below(chance_.below(2) ? 8 : 3000)) {}
    void hear(std::string_view octets) override { heard += octets; }
    void speak(bool waited) override {
        if (!waited) return;
        auto& from = heard.find("NOOP") == heard.npos ? first_ : left_;
        // To what comes before there is one polite reply each.
        const auto piece =
            &from == &first_ ? from.substr(0, from.find('\n') + 1) : from.substr(0, 1 + chance_.below(longest_));
        arrived += piece;
        from.remove_prefix(piece.size());
    }
    std::string heard;

private:
    std::string_view first_, left_;
    fuzz::Chance chance_;
    std::size_t longest_;
};

// RFC 5321 4.2, read by a client that is not choosy about line ends: the code of the first reply, and what is behind
// it; nullopt where there is none.
std::optional<int> reference(std::string_view& text) {
    std::optional<int> code;
    for (int lines = 0; lines < 128; ++lines) {
        const auto end = text.find('\n');
        if (end == text.npos || end + 1 > 2048) return std::nullopt;
        auto line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.size() < 3 || line.substr(0, 3).find_first_not_of("0123456789") != line.npos) return std::nullopt;
        if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return std::nullopt;
        const int said = std::stoi(std::string(line.substr(0, 3)));
        if (said < 200 || said > 599 || said != code.value_or(said)) return std::nullopt;
        code = said;
        if (line.size() == 3 || line[3] == ' ') return code;
    }
    return std::nullopt;
}

void check_heard(std::string_view says, fuzz::Chance chance) {
    Hop hop("220 next\r\n250-next\r\n250 DSN\r\n", says, chance);
    fuzz::Wire::dialled() = [&hop]() -> fuzz::Peer* { return &hop; };
    Upstream host;
    host.endpoint = Endpoint::parse("unix:/fuzz", 0);
    std::optional<Reply> reply;
    {
        Session session(host, "relay.test", {}, std::chrono::steady_clock::now() + std::chrono::hours(1));
        require(!session.failed(), "a polite host is believed");
        // A recipient of this name; the command is the only one that has NOOP in it.
        reply = session.rcpt(Recipient("NOOP@b"));
        auto rest = says;
        const auto meant = reference(rest);
        // Nothing has anything to go on with here, and nobody says goodbye in between.
        const bool fine = meant && *meant / 100 != 3 && *meant / 10 != 22;
        if (fine) same(reply->code, *meant, "the reply is the one that was said");
        else require(reply->code >= 400 && reply->code < 600, "what is none is a refusal", reply->code);
        if (reply->positive()) require(fine, "no yes is heard but one that was said", reply->code);
        same(session.failed().has_value(), !fine || *meant == 421, "who makes no sense is left");
    }
    fuzz::Wire::dialled() = nullptr;
    require(!hop.open, "the connection is closed at the end");
    require(hop.read <= 128 * 2048 + 128 * 1024, "what is read has a limit", hop.read);
    require(reply->text.size() <= 4096, "so has what is kept", reply->text.size());
    require(reply->status.empty() || valid_status(reply->status), "a status is one", reply->status);
    for (const char c : reply->text)
        require((static_cast<unsigned char>(c) >= 32 && c != 127) || c == '\n', "it is cleaned", reply->text);
}

}  // namespace

void fuzz::run(Input input) {
    const auto chance = input.chance();
    const int code = 190 + (input.octet() | input.octet() << 8) % 420;
    const bool statuses = input.flag();
    const auto says = input.rest();
    check_heard(says, chance);
    const std::string status(input.until(' '));
    check_said(code, status, std::string(input.rest()), statuses);
}
