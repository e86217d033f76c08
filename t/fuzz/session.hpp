// session -- a whole session with a client that is played from octets, and a second reading of what both have said.
#pragma once

#include <strings.h>

#include <memory>
#include <optional>
#include <vector>

#include "../../Server.hpp"
#include "replies.hpp"
#include "wire.hpp"

namespace fuzz {

using namespace Net::SMTP;

// How a client sends: in pieces of any size; `early`: all of them are there whenever somebody looks, else each comes
// when it is waited for.
struct Sending {
    Chance chance;
    bool early = false;
};

class PlayedClient : public Peer {
public:
    PlayedClient(std::string_view says, Sending how)
        : left_(says), how_(how), longest_(1 + how_.chance.below(how_.chance.below(2) ? 8 : 1000)) {}
    void hear(std::string_view octets) override { heard += octets; }
    void speak(bool waited) override {
        if (!waited && !how_.early) return;
        const auto piece = left_.substr(0, 1 + how_.chance.below(longest_));
        arrived += piece;
        left_.remove_prefix(piece.size());
        over = piece.empty();
    }
    std::string heard;

private:
    std::string_view left_;
    Sending how_;
    std::size_t longest_;
};

// A mail that was handed over.
struct Handed {
    std::string from, text;
    std::vector<std::string> to;
    bool operator==(const Handed&) const = default;
};

// In place of TLS: what follows goes on as it is, by another way.
class PlainLayer : public TLSLayer {
public:
    explicit PlainLayer(Peer& peer) : peer_(peer) {}
    Did handshake(bool) override { return Did::done; }
    Did read(char* to, std::size_t size, std::size_t& got, bool wait) override {
        if (!peer_.look(wait)) return peer_.over ? Did::ended : Did::wants_input;
        got = peer_.take(to, size);
        return Did::done;
    }
    Did write(const char* from, std::size_t size, std::size_t& sent) override {
        peer_.hear({from, sent = size});
        return Did::done;
    }
    Did end(std::string_view last) noexcept override {
        peer_.hear(last);
        return Did::done;
    }
    const TLS& tls() const override { return tls_; }
    std::string channel_binding(std::string_view) const override { return ""; }
    std::string problem() const override { return ""; }

private:
    Peer& peer_;
    TLS tls_{.version = "TLSv1.3", .cipher = "TLS_AES_256_GCM_SHA384", .bits = 256};
};

struct PlainTLS : TLSAcceptor {
    std::unique_ptr<TLSLayer> accept(int fd) override { return std::make_unique<PlainLayer>(*Wire::at(fd)); }
};

// What a session has come to.
struct Outcome {
    std::string heard;
    std::vector<Handed> mails;
    std::string user;
};

// What the program says of a mail; it follows from the text alone.
inline std::optional<Reply> verdict(std::string_view text) {
    switch (text.size() % 5) {
        case 0: return Reply{550, "5.7.1", "not\r\nthis"};
        case 1: return std::nullopt;  // nobody takes it
        case 2: return text.size() % 10 == 2 ? Reply{421, "4.3.2", "not now"} : Reply{250, "2.0.0", "taken"};
        default: return Reply{250, "2.0.0", "taken"};
    }
}

// Whom the listener keeps from sending chunks.
inline bool vetoed(std::string_view line) { return line.find("13") != line.npos; }

struct Talk {
    Options options{};
    bool veto = false;
};

inline Outcome play(std::string_view says, const Talk& talk, Sending how) {
    PlayedClient peer(says, how);
    Outcome out;
    {
        Server::Client client(Connection(Wire::socket(peer)), talk.options);
        const auto who = client.peer();
        if (talk.veto)
            client.pipeline().on<Event::Command>([](Event::Command& e) {
                if (Command::parse(e.line).verb == Verb::BDAT && vetoed(e.line)) e.reply = {550, "5.7.1", "no"};
            });
        while (client.process()) {
            out.mails.push_back({client.FROM.raw, std::string(client.MSG.view()), {}});
            for (const auto& to : client.TO) out.mails.back().to.push_back(to.raw);
            if (const auto said = verdict(out.mails.back().text)) {
                if (said->positive()) client.accept(*said);
                else client.reject(*said);
            }
        }
        require(client.peer() == who, "nothing a client says makes it somebody else", client.peer().str());
        require(client.closed(), "process() is false at the end only");
        out.user = client.user();
    }
    require(!peer.open, "the connection is closed at the end");
    out.heard = std::move(peer.heard);
    return out;
}

// ---- the second reading ----

inline std::string capitals(std::string_view text) {
    std::string out;
    for (const char c : text) out += c >= 'a' && c <= 'z' ? char(c - 32) : c;
    return out;
}

// A text as RFC 5321 4.5.2 has it, from the front of what was sent; nullopt: its end is not there.
inline std::optional<std::string> take_text(std::string_view& said) {
    std::string out;
    auto rest = said;
    for (;;) {
        const auto end = rest.find("\r\n");
        if (end == rest.npos) return std::nullopt;
        const auto line = rest.substr(0, end + 2);
        rest.remove_prefix(line.size());
        if (line == ".\r\n") break;
        out += line.substr(line.front() == '.' ? 1 : 0);
    }
    said = rest;
    return out;
}

// CR and LF that stand alone become CRLF; nullopt where there were none.
inline std::optional<std::string> normalized(std::string_view text) {
    std::string out;
    bool any = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool lone = text[i] == '\r' ? i + 1 == text.size() || text[i + 1] != '\n'
                                          : text[i] == '\n' && (i == 0 || text[i - 1] != '\r');
        any |= lone;
        if (lone) out += "\r\n";
        else out += text[i];
    }
    return any ? std::optional(out) : std::nullopt;
}

// Goes through what was said once more, a line and its reply at a time. It believes the replies about what is allowed,
// and nothing else: where commands begin and end, which reply is to which, and what must have become a mail.
class SecondReading {
public:
    SecondReading(std::string_view said, const Outcome& outcome, const Talk& talk)
        : said_(said), replies_(replies(outcome.heard)), outcome_(outcome), talk_(talk) {
        same(answer().code, 220, "the greeting comes first");
        while (!over_) line();
        require(at_ == replies_.size(), "each command has one reply", outcome.heard, said);
        require(handed_ == outcome.mails.size(), "nothing else is handed over", outcome.heard, said);
        same(authenticated_, !outcome.user.empty(), "who has not heard 235 is nobody");
    }

private:
    const Said& answer() {
        require(at_ < replies_.size(), "a reply is due", outcome_.heard, said_);
        return replies_[at_++];
    }
    std::optional<std::string_view> next_line() {
        const auto end = said_.find("\r\n");
        if (end == said_.npos) return std::nullopt;
        const auto out = said_.substr(0, end);
        said_.remove_prefix(end + 2);
        return out;
    }

    void line() {
        const bool closed = closes_ || replies_[at_ - 1].code == 421 || replies_[at_ - 1].code == 221;
        const auto line = next_line();
        if (closed || !line) {
            over_ = true;
            return;
        }
        const auto command = Command::parse(*line);
        const auto word = capitals(command.name);
        // Not even its reply may be there: the octets of a chunk come first, a chunk that is too large is the end.
        if (word == "BDAT" && counts(*line)) return chunk(*line, command.argument);
        const auto& reply = answer();
        // What may be followed by octets that are no commands is the end, if nobody can tell by how many.
        if (word == "BDAT") closes_ = too_long(*line) || !command.argument.empty();
        if (word == "STARTTLS") closes_ = reply.code == 554;
        if (reply.code >= 400) return;  // and nothing has changed
        if (word == "STARTTLS") return encrypted();
        if (word == "DATA") return text(reply);
        if (word == "AUTH") return exchange(reply);
        if (word == "MAIL") return begin(*line);
        if (word == "RCPT") return to_.push_back(line->substr(8)), void();
        const bool forgets = word == "RSET" || word == "HELO" || word == "EHLO" || word == "LHLO";
        if (forgets) forget();
        if (forgets && word != "RSET") greeted_ = true, chunking_ = word != "HELO" && talk_.options.offer.chunking;
        const bool known = forgets || word == "NOOP" || word == "VRFY" || word == "HELP" || word == "QUIT";
        require(known, "what is no command is refused", *line, reply.octets);
    }

    void begin(std::string_view line) {
        require(greeted_, "no mail before EHLO", outcome_.heard);
        forget();
        in_mail_ = true;
        from_ = line.substr(10);
        const auto words = capitals(line);
        binary_ = words.find("BODY=BINARYMIME") != words.npos;
    }
    // RFC 3207 4.2: what was said before is as if it had not been.
    void encrypted() {
        forget();
        greeted_ = chunking_ = authenticated_ = false;
    }
    void forget() {
        in_mail_ = chunks_ = refused_ = binary_ = false;
        to_.clear();
        text_.clear();
    }

    void text(const Said& reply) {
        same(reply.code, 354, "only 354 begins a text");
        require(in_mail_ && !to_.empty(), "no text without a recipient", outcome_.heard);
        auto text = take_text(said_);
        if (!text) {
            over_ = true;  // and nobody is answered
            return;
        }
        text_ = std::move(*text);
        end_of_text();
    }

    // All of it is here: the reply, or by LMTP the replies, and the mail if it was one to be taken.
    void end_of_text() {
        const auto& o = talk_.options;
        const auto clean = binary_ ? std::nullopt : normalized(text_);
        const bool bare = clean.has_value();
        if (bare && o.bare_line_ends == BareLineEnds::normalize) text_ = *clean;
        const bool refused = refused_ || (bare && o.bare_line_ends == BareLineEnds::reject) ||
                             (o.max_message_size > 0 && text_.size() > o.max_message_size);
        const auto n = o.protocol == Protocol::lmtp ? to_.size() : 1;
        int wanted = 0;
        if (!refused) wanted = check_mail();
        for (std::size_t i = 0; i < n; ++i) {
            const int code = answer().code;
            if (refused) require(code >= 500 && code < 600, "what is refused is refused for good", code, text_);
            else require(code == wanted || (code == 451 && wanted == 421), "the program's word is said", code, wanted);
        }
        if (!refused && wanted == 421) closes_ = true;
        forget();
    }

    // The next one that was handed over is this one. What the program has said of it.
    int check_mail() {
        require(handed_ < outcome_.mails.size(), "a mail that is complete is handed over", text_);
        const auto& mail = outcome_.mails[handed_++];
        if (talk_.options.complete) require(mail.text.ends_with(text_), "the text is what was sent", mail.text, text_);
        else same(mail.text, text_, "the text is what was sent");
        require(from_.starts_with(mail.from), "from whom it was", from_, mail.from);
        same(mail.to.size(), to_.size(), "to whom it was");
        for (std::size_t i = 0; i < to_.size(); ++i)
            require(to_[i].starts_with(mail.to[i]), "to whom it was", to_[i], mail.to[i]);
        const auto said = verdict(mail.text);
        return said ? said->code : 451;
    }

    bool too_long(std::string_view line) const {
        return line.size() + 2 > std::max<std::size_t>(talk_.options.max_command_line, 512);
    }
    // Whether its octets are counted at all; a line that is none, or of which not even that is sure, has a reply only.
    bool counts(std::string_view line) const {
        if (too_long(line)) return false;
        for (const char c : line)
            if ((static_cast<unsigned char>(c) < 32 && c != '\t') || c == 127) return false;
        return !Command::parse(line).argument.empty();
    }

    void chunk(std::string_view line, std::string_view argument) {
        const auto& o = talk_.options;
        const auto blank = std::min(argument.find(' '), argument.size());
        const auto digits = argument.substr(0, blank);
        const bool last = capitals(argument.substr(blank)) == " LAST";
        const bool number = !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos;
        if (over_limit()) return;
        if (!number || (blank < argument.size() && !last)) return same(answer().code, 501, "no number"), close();
        const auto zeros = std::min(digits.find_first_not_of('0'), digits.size() - 1);
        const bool huge = digits.size() - zeros > 19;
        const auto size = huge ? UINT64_MAX : std::stoull(std::string(digits));
        if (huge || (o.max_message_size > 0 && size > o.max_message_size && size > o.drain)) {
            const auto n = last && o.protocol == Protocol::lmtp ? std::max<std::size_t>(to_.size(), 1) : 1;
            for (std::size_t i = 0; i < n; ++i) same(answer().code, 552, "more than we would read away");
            return close();
        }
        if (said_.size() < size) {
            over_ = true;
            return;
        }
        const auto octets = said_.substr(0, std::size_t(size));
        said_.remove_prefix(octets.size());
        const bool vetoed = talk_.veto && fuzz::vetoed(line);
        if (!chunks_ && (vetoed || !chunking_ || to_.empty())) {
            require(answer().code >= 400, "a chunk of no mail is refused", line);
            return;
        }
        chunks_ = true;
        text_ += octets;
        refused_ |= vetoed;
        if (last) return end_of_text();
        const auto& reply = answer();
        if (reply.code >= 400) refused_ = true;
        else require(!refused_ && reply.code == 250, "what was refused stays refused", reply.octets);
    }
    // Too many commands or errors end a session wherever it is.
    bool over_limit() const {
        const bool over =
            at_ < replies_.size() && replies_[at_].octets.find(" Too many commands") != std::string_view::npos;
        if (over) ++at_;
        return over;
    }
    void close() { closes_ = true; }

    void exchange(const Said& first) {
        const auto* reply = &first;
        while (reply->code == 334) {
            if (!next_line()) {
                over_ = true;
                return;
            }
            reply = &answer();
        }
        authenticated_ |= reply->code == 235;
        require(reply->code == 235 || reply->code >= 400, "an exchange ends with yes or no", reply->octets);
    }

    std::string_view said_;
    std::vector<Said> replies_;
    const Outcome& outcome_;
    const Talk& talk_;
    mutable std::size_t at_ = 0;
    std::size_t handed_ = 0;
    bool over_ = false, closes_ = false;
    bool in_mail_ = false, chunks_ = false, refused_ = false, binary_ = false;
    bool greeted_ = false, chunking_ = false, authenticated_ = false;
    std::string_view from_;
    std::vector<std::string_view> to_;
    std::string text_;
};

// Small limits, so that they are met.
inline Options options(std::uint8_t how) {
    Options o;
    o.hostname = "mx.test";
    o.bare_line_ends = BareLineEnds(how % 3);
    o.offer.binary_mime = o.offer.smtputf8 = o.offer.dsn = true;
    o.spool_dir = "/dev/shm";
    o.auth_delay = std::chrono::seconds(0);
    if (how & 4) o.max_message_size = 300;
    if (how & 8) o.spool_above = how & 16 ? 0 : 64;
    if (how & 32) o.max_command_line = 512;
    if (how & 64) o.protocol = Protocol::lmtp;
    if (how & 128) o.offer.chunking = o.offer.binary_mime = false;
    return o;
}

// Of two things that are wrong with a text the one is told that was met first, and that depends on the pieces.
inline std::string but_for_reasons(std::string_view heard) {
    std::string out;
    for (const auto& reply : replies(heard)) {
        const bool reason = reply.octets.starts_with("552 5.3.4 Message is") || reply.octets.starts_with("554 5.6.0 ");
        out += reason ? "552 or 554\r\n" : reply.octets;
    }
    return out;
}

// The same octets, cut in two ways, are heard in the same way; and as they should be.
inline void both_ways(std::string_view says, const Talk& talk, Chance chance, bool early) {
    const auto one = play(says, talk, {chance, early});
    SecondReading(says, one, talk);
    Chance other(chance.next());
    const auto two = play(says, talk, {other, !early});
    same(but_for_reasons(one.heard), but_for_reasons(two.heard), "the same is heard however it is cut");
    require(one.mails == two.mails, "and the same is handed over", one.heard);
}

}  // namespace fuzz
