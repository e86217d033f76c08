// The server's side of SCRAM-SHA-256, SCRAM-SHA-256-PLUS and CRAM-MD5.
#include <ctime>

#include "Base64.hpp"
#include "Gsasl.hpp"
#include "SaslCrypto.hpp"
#include "SaslMechanisms.hpp"
#include "SaslScram.hpp"

namespace Net::SMTP {

namespace {

class ScramExchange : public SaslExchange {
public:
    ScramExchange(JudgePointer judge, const Channel& channel, ScramTerms terms)
        : SaslExchange(std::move(judge), channel), terms_(std::move(terms)) {}

private:
    Step next(std::optional<std::string_view> message) override {
        if (!message) return challenge("");
        return user_.empty() ? first(*message) : final(*message);
    }

    Step first(std::string_view message) {
        auto client = Scram::read_client_first(message);
        if (!client) return failure("", "malformed");
        auto user = saslprep(client->user);
        if (!user) return failure("", "not a user's name");
        if (const char* wrong = wrong_binding(client->header)) return failure(*user, wrong);
        user_ = *user;
        acts_as_ = client->header.acts_as;
        binding_ = client->header.text;
        if (terms_.plus) binding_ += channel().binding(client->header.binding);
        client_first_bare_ = client->bare;
        keys_ = judge().keys(user_);
        nonce_ = client->nonce + (terms_.nonce.empty() ? Scram::new_nonce() : terms_.nonce);
        server_first_ = Scram::write({nonce_, keys_.salt, keys_.iterations});
        return challenge(server_first_);
    }

    // RFC 5802 6: nobody is to believe that there is no channel binding where there is.
    const char* wrong_binding(const Scram::Header& header) const {
        if (!terms_.plus) {
            if (header.flag == 'p') return "channel binding with the wrong mechanism";
            return header.flag == 'y' && terms_.plus_offered ? "was kept from seeing -PLUS" : nullptr;
        }
        const bool known = header.binding == "tls-exporter" || header.binding == "tls-unique";
        return known && !channel().binding(header.binding).empty() ? nullptr : "no channel binding that is there";
    }

    Step final(std::string_view message) {
        auto client = Scram::read_client_final(message);
        if (!client || client->nonce != nonce_) return failure(user_, "malformed");
        if (!same_octets(client->binding, binding_)) return failure(user_, "bound to another channel");
        auto dialogue = Scram::dialogue(client_first_bare_, server_first_, client->without_proof);
        if (!Scram::proves(keys_, dialogue, client->proof)) return failure(user_, "no such user or password");
        return proved(user_, acts_as_, "v=" + base64_encode(Scram::signature(keys_, dialogue)));
    }

    const ScramTerms terms_;
    ScramKeys keys_;
    std::string user_, acts_as_, binding_, nonce_, client_first_bare_, server_first_;
};

class CramExchange : public SaslExchange {
public:
    CramExchange(JudgePointer judge, const Channel& channel, std::string challenge)
        : SaslExchange(std::move(judge), channel), challenge_(std::move(challenge)) {}
    bool client_first() const override { return false; }

private:
    Step next(std::optional<std::string_view> message) override {
        if (!asked_) {
            asked_ = true;
            return message ? failure("", "malformed") : challenge(challenge_);
        }
        auto blank = message ? message->rfind(' ') : std::string_view::npos;
        if (blank == std::string_view::npos) return failure("", "malformed");
        auto user = saslprep(message->substr(0, blank));
        if (!user) return failure("", "not a user's name");
        const auto digest = hexadecimal(hmac_md5(judge().clear_password(*user), challenge_));
        if (!same_octets(small(message->substr(blank + 1)), digest)) return failure(*user, "no such user or password");
        return proved(*user, "");
    }

    static std::string small(std::string_view text) {
        std::string result(text);
        for (char& c : result)
            if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
        return result;
    }

    const std::string challenge_;
    bool asked_ = false;
};

// RFC 2195 2: chance, a time and a host, as in a Message-ID. What is no host's name would not be one.
std::string new_challenge(const std::string& hostname) {
    std::string host;
    for (char c : hostname)
        if (c > ' ' && c <= '~' && c != '<' && c != '>' && c != '@') host += c;
    return "<" + hexadecimal(random_octets(16)) + "." + std::to_string(std::time(nullptr)) + "@" +
           (host.empty() ? "localhost" : host) + ">";
}

}  // namespace

std::unique_ptr<AuthExchange> scram_exchange(JudgePointer judge, const Channel& channel, ScramTerms terms) {
    return std::make_unique<ScramExchange>(std::move(judge), channel, std::move(terms));
}

std::unique_ptr<AuthExchange> cram_md5_exchange(JudgePointer judge, const Channel& channel, std::string challenge) {
    if (challenge.empty()) challenge = new_challenge(channel.hostname);
    return std::make_unique<CramExchange>(std::move(judge), channel, std::move(challenge));
}

}  // namespace Net::SMTP
