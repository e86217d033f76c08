#include "Users.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace Net::SMTP::Test {

namespace {

using Passwords = std::map<std::string, std::string>;
using Is = AuthExchange::Step::Is;

class Exchange : public AuthExchange {
public:
    explicit Exchange(const Passwords& passwords) : passwords_(passwords) {}

protected:
    Step judge(const std::string& user, std::string_view password) const {
        const auto known = passwords_.find(user);
        if (known == passwords_.end() || user.empty()) return {.user = user, .reason = "no such user"};
        if (known->second != password) return {.user = user, .reason = "wrong password"};
        return {.is = Is::success, .user = user};
    }

private:
    const Passwords& passwords_;
};

class Plain : public Exchange {
public:
    using Exchange::Exchange;

private:
    // RFC 4616 2: [authzid] NUL authcid NUL passwd
    Step step(std::optional<std::string_view> message) override {
        if (!message) return {.is = Is::challenge};
        const auto first = message->find('\0');
        const auto second = first == message->npos ? first : message->find('\0', first + 1);
        if (second == message->npos) return {.reason = "malformed"};
        const auto acts_as = message->substr(0, first);
        const std::string user(message->substr(first + 1, second - first - 1));
        if (!acts_as.empty() && acts_as != user) return {.user = user, .reason = "would act as somebody else"};
        return judge(user, message->substr(second + 1));
    }
};

class Login : public Exchange {
public:
    using Exchange::Exchange;

private:
    Step step(std::optional<std::string_view> response) override {
        if (!response) return {.is = Is::challenge, .data = "Username:"};
        if (user_) return judge(*user_, *response);
        user_.emplace(*response);
        return {.is = Is::challenge, .data = "Password:"};
    }

    std::optional<std::string> user_;
};

}  // namespace

Users::Users(Passwords passwords, std::vector<std::string> mechanisms)
    : passwords_(std::move(passwords)), mechanisms_(std::move(mechanisms)) {
    for (const auto& name : mechanisms_)
        if (name != "PLAIN" && name != "LOGIN") throw std::invalid_argument("Users: no mechanism " + name);
}

std::unique_ptr<AuthExchange> Users::begin(std::string_view mechanism, const Channel&) {
    if (std::ranges::find(mechanisms_, mechanism) == mechanisms_.end()) return nullptr;
    if (mechanism == "PLAIN") return std::make_unique<Plain>(passwords_);
    return std::make_unique<Login>(passwords_);
}

}  // namespace Net::SMTP::Test
