// The server's side of PLAIN, LOGIN and EXTERNAL.
#include "Gsasl.hpp"
#include "SaslMechanisms.hpp"

namespace Net::SMTP {

namespace {

// Makes the texts fit to be asked about, and asks.
class PasswordExchange : public SaslExchange {
protected:
    using SaslExchange::SaslExchange;

    Step check(std::string_view acts_as, std::string_view name, std::string_view given) const {
        auto user = saslprep(name);
        if (!user) return failure("", "not a user's name");
        auto prepared = saslprep(given);
        if (!prepared) return failure(*user, "not a password");
        Secret password;
        password.octets.swap(*prepared);
        if (!judge().password(*user, password.octets, channel())) return failure(*user, "no such user or password");
        return proved(*user, std::string(acts_as));
    }
};

class Plain : public PasswordExchange {
public:
    using PasswordExchange::PasswordExchange;

private:
    // RFC 4616 2: message = [authzid] NUL authcid NUL passwd.
    Step next(std::optional<std::string_view> message) override {
        if (!message) return challenge("");
        auto first = message->find('\0');
        auto second = first == message->npos ? first : message->find('\0', first + 1);
        if (second == message->npos) return failure("", "malformed");
        return check(message->substr(0, first), message->substr(first + 1, second - first - 1),
                     message->substr(second + 1));
    }
};

class Login : public PasswordExchange {
public:
    using PasswordExchange::PasswordExchange;

private:
    Step next(std::optional<std::string_view> message) override {
        if (!message) return challenge("Username:");
        if (named_) return check("", user_, *message);
        named_ = true;
        user_ = *message;
        return challenge("Password:");
    }

    bool named_ = false;
    std::string user_;
};

class External : public SaslExchange {
public:
    using SaslExchange::SaslExchange;

private:
    Step next(std::optional<std::string_view> message) override {
        if (!message) return challenge("");
        const auto& peer = channel().tls->peer;
        std::string wanted;
        if (!message->empty()) {
            auto prepared = saslprep(*message);
            if (!prepared) return failure("", "not a user's name");
            wanted = *prepared;
        }
        auto user = judge().accounts().certificate(*peer, wanted, channel());
        if (!user || user->empty()) return failure(wanted, "not the certificate of a user");
        return {Step::Is::success, "", *user, ""};
    }
};

}  // namespace

std::unique_ptr<AuthExchange> plain_exchange(JudgePointer judge, const Channel& channel) {
    return std::make_unique<Plain>(std::move(judge), channel);
}

std::unique_ptr<AuthExchange> login_exchange(JudgePointer judge, const Channel& channel) {
    return std::make_unique<Login>(std::move(judge), channel);
}

std::unique_ptr<AuthExchange> external_exchange(JudgePointer judge, const Channel& channel) {
    return std::make_unique<External>(std::move(judge), channel);
}

}  // namespace Net::SMTP
