// relay -- a whole delivery to a next hop that says anything, in any pieces: nothing is delivered without its yes.
#include "../../Relay/Relay.hpp"

#include <algorithm>
#include <optional>

#include "../../Relay/SaslLogin.hpp"
#include "../../Server/Base64.hpp"
#include "session.hpp"

using namespace Net::SMTP;
using fuzz::require, fuzz::same;

namespace {

const std::string secret = "correct horse battery";

// Says what it says: in whole replies, each when it is waited for, or in any pieces.
class Hop : public fuzz::Peer {
public:
    Hop(std::string_view says, fuzz::Chance chance, std::uint8_t how)
        : left_(says), chance_(chance), replies_(how & 1), early_((how & 6) == 6), longest_(1 + chance_.below(200)) {}
    void hear(std::string_view octets) override {
        for (const char c : octets) {
            heard += c;
            said_by_then.push_back(said_);
        }
    }
    void speak(bool waited) override {
        if (!waited && !early_) return;
        const auto piece = left_.substr(0, replies_ ? reply() : 1 + chance_.below(longest_));
        arrived += piece;
        left_.remove_prefix(piece.size());
        said_ += piece.size();
    }
    bool knows_secret() const {
        static const auto login = base64_encode(secret), plain = base64_encode(std::string("\0user\0", 6) + secret);
        return heard.find(login) != heard.npos || heard.find(plain) != heard.npos;
    }
    std::string heard;
    std::vector<std::size_t> said_by_then;  // how much it had said when it heard that octet

private:
    // To the end of the first line that ends a reply.
    std::size_t reply() const {
        for (std::size_t at = 0; at < left_.size();) {
            const auto end = left_.find('\n', at);
            if (end == left_.npos) break;
            const bool goes_on = end > at + 3 && left_[at + 3] == '-';
            at = end + 1;
            if (!goes_on) return at;
        }
        return left_.size();
    }
    std::string_view left_;
    fuzz::Chance chance_;
    bool replies_, early_;
    std::size_t longest_, said_ = 0;
};

struct Heard {
    int code = 0;
    std::size_t begins = 0;
};

// The replies of a host, as far as they are any.
std::vector<Heard> replies_of(std::string_view all) {
    std::vector<Heard> out;
    auto text = all;
    while (!text.empty()) {
        Heard reply{0, all.size() - text.size()};
        for (bool last = false; !last;) {
            const auto end = text.find('\n');
            if (end == text.npos) return out;
            auto line = text.substr(0, end);
            text.remove_prefix(end + 1);
            if (line.ends_with('\r')) line.remove_suffix(1);
            if (line.size() < 3 || line.substr(0, 3).find_first_not_of("0123456789") != line.npos) return out;
            if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return out;
            const int code = std::stoi(std::string(line.substr(0, 3)));
            if (reply.code != 0 && code != reply.code) return out;
            reply.code = code;
            last = line.size() == 3 || line[3] == ' ';
        }
        out.push_back(reply);
    }
    return out;
}

// What a host has heard, read by itself: which reply is to what.
struct Dialogue {
    std::vector<int> rcpt;          // codes
    std::vector<std::size_t> ends;  // of the text, or the chunk: numbers of replies
    std::size_t ended = 0;          // where in what was heard
    int mail = 0;
    std::string text;
    bool whole = false;
};

Dialogue read(std::string_view heard, const std::vector<Heard>& said, bool lmtp) {
    Dialogue out;
    std::size_t at = 1, accepted = 0;  // the greeting is to nothing
    const auto code = [&](std::size_t i) { return i < said.size() ? said[i].code : 0; };
    const auto all = heard.size();
    while (!heard.empty()) {
        const auto end = heard.find("\r\n");
        if (end == heard.npos) break;
        const auto line = heard.substr(0, end);
        for (const char c : line)
            require(static_cast<unsigned char>(c) >= 32 && c != 127, "no control is in a command", line);
        require(line.size() <= 12'290, "a command has a limit", line);
        heard.remove_prefix(end + 2);
        const int reply = code(at++);
        if (line.starts_with("MAIL ")) out.mail = reply;
        if (line.starts_with("RCPT ")) {
            out.rcpt.push_back(reply);
            accepted += reply / 100 == 2;
        }
        if (line == "RSET") out.rcpt.clear(), accepted = 0;
        if (line.starts_with("BDAT ")) {
            const auto size = std::stoull(std::string(line.substr(5)));
            require(line.ends_with(" LAST"), "there is one chunk", line);
            out.whole = heard.size() >= size;
            out.text = heard.substr(0, std::size_t(size));
            heard.remove_prefix(out.text.size());
            --at;
        }
        if (line == "DATA" && reply == 354) {
            const auto text = fuzz::take_text(heard);
            out.whole = text.has_value();
            if (!text) break;
            out.text = *text;
        }
        if (line.starts_with("BDAT ") || (line == "DATA" && reply == 354)) {
            if (!out.whole) break;
            out.ended = all - heard.size();
            for (std::size_t i = 0; i < (lmtp ? accepted : 1); ++i) out.ends.push_back(at++);
        }
    }
    return out;
}

void check(const Relay& relay, const Dialogue& d, const std::vector<Heard>& said, const Hop& hop, bool lmtp,
           const std::string& text) {
    std::size_t accepted = 0;
    for (std::size_t i = 0; i < relay.results().size(); ++i) {
        const auto& result = relay.results()[i];
        const bool yes = i < d.rcpt.size() && d.rcpt[i] / 100 == 2;
        const auto which = lmtp ? accepted : 0;
        accepted += yes;
        require(result.reply.code >= 200 && result.reply.code <= 599, "a result is a reply", result.reply.code);
        const bool told = hop.knows_secret() && result.reply.str().find(secret) != std::string::npos;
        require(!told, "no secret is in it", result.reply.str());
        if (!result.delivered()) continue;
        require(d.mail / 100 == 2, "delivered needs a yes to MAIL", d.mail);
        require(yes, "delivered needs a yes to its RCPT", i);
        require(d.whole, "delivered needs the whole text", hop.heard);
        same(d.text, text, "and it is the text");
        require(which < d.ends.size() && d.ends[which] < said.size(), "delivered needs a reply to the end", hop.heard);
        const auto& end = said[d.ends[which]];
        require(end.code / 100 == 2 && end.code / 10 != 22, "and this is a yes", end.code);
        require(end.begins >= hop.said_by_then[d.ended - 1], "which was said when the end had been", end.begins);
    }
}

}  // namespace

void fuzz::run(Input input) {
    const auto how = input.octet(), what = input.octet();
    const auto chance = input.chance();
    const bool lmtp = how & 8;
    std::string text = "Subject: x\r\n\r\n.dot\r\n..\r\nbody\r\n";
    if (what & 1) text.clear();
    if (what & 2) text += std::string(70'000, 'x') + "\r\n.\r\n";
    Sender from("a@b");
    if (what & 4) from.body = BodyType::binary_mime;
    if (what & 8) from.ret = Return::full;
    if (what & 16) from.envid = "id+";
    std::vector<Recipient> to{Recipient("c@d")};
    if (what & 32) to.push_back(Recipient("e@f"));
    if (what & 64) to.push_back(Recipient("postmaster"));

    Hop hop(input.rest(), chance, how);
    bool taken = false;
    Wire::dialled() = [&]() -> Peer* { return std::exchange(taken, true) ? nullptr : &hop; };
    Relay::Options options;
    options.host = lmtp ? "lmtp:unix:/fuzz" : "unix:/fuzz";
    options.hostname = "relay.test";
    options.received = false;
    options.partial = what & 128;
    options.chunking = !(how & 16);
    if (how & 32)
        options.login = std::make_shared<SaslLogin>(SaslLogin::Options{.user = "user",
                                                                       .password = secret,
                                                                       .mechanisms = {"PLAIN", "LOGIN", "CRAM-MD5"},
                                                                       .clear_text = {"PLAIN", "LOGIN"}});
    bool told = false;
    if (how & 64)
        options.transcript = [&](auto, auto, std::string_view line) {
            const bool holds = line.find(secret) != line.npos || line.find(base64_encode(secret)) != line.npos;
            told |= holds && hop.knows_secret();
        };
    {
        const Message message(text);
        const Relay relay(from, to, message, options);
        same(relay.results().size(), to.size(), "each recipient has a result");
        const auto said = replies_of(input.rest());
        check(relay, read(hop.heard, said, lmtp), said, hop, lmtp, text);
    }
    Wire::dialled() = nullptr;
    require(!hop.open || !taken, "the connection is closed at the end");
    require(!told, "no secret is overheard", hop.heard);
}
